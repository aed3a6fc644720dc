"""Rules and alerts: promtool accepts them, and the metrics that they use exist."""

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
    process = subprocess.run(  # noqa: S603
        [tool("promtool", "prometheus"), *arguments],
        cwd=PROMETHEUS,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def test_prometheus_accepts_the_configuration_and_the_rules() -> None:
    """promtool reads both files of rules through the configuration."""
    output = promtool("check", "config", "prometheus.yml")
    assert f"SUCCESS: {len(ALERTS)} rules found" in output
    assert f"SUCCESS: {len(RECORDED)} rules found" in output


def test_the_tests_of_the_rules_pass() -> None:
    """Each alert fires with the expected text, and is silent where it should be."""
    assert "SUCCESS" in promtool("test", "rules", "tests/alerts.yml")


def test_every_alert_is_tested_to_fire_and_to_be_silent() -> None:
    """The tests name no alert that does not exist."""
    fires: set[str] = set()
    silent: set[str] = set()
    for test in TESTS:
        for case in test["alert_rule_test"]:
            (fires if case["exp_alerts"] else silent).add(case["alertname"])
    names = {rule["alert"] for rule in ALERTS}
    assert fires == names
    assert silent == names


def test_every_alert_has_a_severity_and_a_runbook() -> None:
    """The runbook is a section of docs/operations.md that exists."""
    page = (ROOT / "docs" / "operations.md").read_text()
    sections = {name.lower() for name in re.findall(r"^### (\w+)$", page, re.MULTILINE)}
    for rule in ALERTS:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}
        place, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert place == "docs/operations.md"
        assert anchor == rule["alert"].lower()
        assert anchor in sections


def test_the_rules_use_metrics_that_exist() -> None:
    """They are metrics of the worker, or recorded ones."""
    recorded = {rule["record"] for rule in RECORDED}
    for rule in RECORDED:
        assert names_in(rule["expr"]) <= exposed_names()
    used = set().union(*(names_in(rule["expr"]) for rule in ALERTS))
    assert used <= exposed_names() | recorded
    assert len(used) >= 15
