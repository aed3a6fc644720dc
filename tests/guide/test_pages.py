"""The pages for operators: what is generated is up to date, and what is said holds."""

from __future__ import annotations

import re
import runpy

import pytest
from typer.main import get_command

from processes import ROOT
from streamer_worker.cli.main import cli

DOCS = ROOT / "docs"
GENERATE = runpy.run_path(str(DOCS / "generate.py"))
OPERATIONS = (DOCS / "operations.md").read_text()


@pytest.mark.parametrize("name", ["settings.md", "metrics.md"])
def test_what_is_generated_is_up_to_date(name: str) -> None:
    """`make docs` writes it."""
    assert GENERATE["written"](name) == (DOCS / name).read_text()


def test_every_label_is_explained() -> None:
    """Those of the table stand in the section on labels."""
    page = (DOCS / "metrics.md").read_text()
    table, _, rest = page.partition("<!-- end -->")
    labels = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"\| \w+ \| (.*?) \|", table))))
    firsts = re.findall(r"^\| (.*?) \|", rest, re.MULTILINE)
    explained = set(re.findall(r"`(\w+)`", " ".join(firsts)))
    assert labels - explained == {"loop", "type", "version", "python", "distribution"}


def test_its_commands_are_as_they_say() -> None:
    """Each command and option that the page on operations names."""
    said = set(re.findall(r"`streamer-worker ([^`]+)`", OPERATIONS.replace("\n", " ")))
    assert len(said) > 10
    for line in said:
        name, *rest = line.split()
        group = get_command(cli).commands[name]  # type: ignore[attr-defined]
        if hasattr(group, "commands"):
            group = group.commands[rest.pop(0)]
        known = {option for each in group.params for option in each.opts}
        assert {each for each in rest if each.startswith("--")} <= known, line


def test_its_times_are_the_defaults() -> None:
    """Of draining and of the image."""
    assert "--stop-timeout 70" in OPERATIONS
    assert "terminationGracePeriodSeconds: 70" in OPERATIONS
    unit = (ROOT / "deploy" / "systemd" / "streamer-worker@.service").read_text()
    assert "TimeoutStopSec=70" in unit
