"""Rules and alerts: promtool's judgement, and that they speak of metrics that exist."""

from __future__ import annotations

import re
import subprocess

import yaml

from deploy.dashboard import PROMETHEUS, names_in, rules
from processes import ROOT
from tools import tool
from unit.worker.exposed import exposed_names

ALERTS = rules("alerts.yml")
RECORDED = rules("recording.yml")
TESTS = yaml.safe_load((PROMETHEUS / "tests" / "alerts.yml").read_text())["tests"]


def promtool(*arguments: str) -> str:
    ended = subprocess.run(  # noqa: S603
        [tool("promtool", "prometheus"), *arguments],
        cwd=PROMETHEUS,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_prometheus_takes_the_configuration_and_the_rules() -> None:
    """Both files of rules, through the configuration that names them."""
    said = promtool("check", "config", "prometheus.yml")
    assert f"SUCCESS: {len(ALERTS)} rules found" in said
    assert f"SUCCESS: {len(RECORDED)} rules found" in said


def test_the_rules_do_what_their_tests_say() -> None:
    """Each alert fires, with these words, and is silent where it should be."""
    assert "SUCCESS" in promtool("test", "rules", "tests/alerts.yml")


def test_every_alert_is_tested_to_fire_and_to_be_silent() -> None:
    """And the tests name no alert that is not there."""
    fires: set[str] = set()
    silent: set[str] = set()
    for test in TESTS:
        for judged in test["alert_rule_test"]:
            (fires if judged["exp_alerts"] else silent).add(judged["alertname"])
    names = {rule["alert"] for rule in ALERTS}
    assert fires == names
    assert silent == names


def test_every_alert_says_how_bad_it_is_and_where_to_read_on() -> None:
    """The section of the page on operations that the runbook points to exists."""
    page = (ROOT / "docs" / "operations.md").read_text()
    sections = {each.lower() for each in re.findall(r"^### (\w+)$", page, re.MULTILINE)}
    for rule in ALERTS:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}
        place, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert place == "docs/operations.md"
        assert anchor == rule["alert"].lower()
        assert anchor in sections


def test_the_rules_use_metrics_that_exist() -> None:
    """The worker's own, or recorded ones."""
    recorded = {rule["record"] for rule in RECORDED}
    for rule in RECORDED:
        assert names_in(rule["expr"]) <= exposed_names()
    used = set().union(*(names_in(rule["expr"]) for rule in ALERTS))
    assert used <= exposed_names() | recorded
    assert len(used) >= 15
