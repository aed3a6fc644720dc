"""The pages in docs/: generated parts are up to date, and commands and times are right."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import runpy

import pytest
from typer.main import get_command

from processes import ROOT
from streamer_worker.cli.main import cli

DOCS = ROOT / "docs"
GENERATE = runpy.run_path(str(DOCS / "generate.py"))
PACKAGES = runpy.run_path(str(DOCS / "api_reference.py"))["PACKAGES"]
REFERENCE = (DOCS / "api.md").read_text()
OPERATIONS = (DOCS / "operations.md").read_text()


@pytest.mark.parametrize("name", GENERATE["PAGES"])
def test_generated_parts_are_up_to_date(name: str) -> None:
    """`make docs` changes nothing."""
    assert GENERATE["generate_page"](name) == (DOCS / name).read_text()


@pytest.mark.parametrize("name", PACKAGES)
def test_the_reference_has_every_public_name(name: str) -> None:
    """docs/api.md has a heading for each name, and its docstring under the heading."""
    package = importlib.import_module(name)
    _, _, page = REFERENCE.partition(f"\n## {name}\n")
    entries = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL))
    for public in package.__all__:
        documented = getattr(package, public)
        assert public in entries
        if inspect.isfunction(documented):
            assert (inspect.getdoc(documented) or "").partition("\n")[0] in entries[public]


def test_the_texts_of_the_reference_name_public_classes_only() -> None:
    """A reader cannot look up a class that the packages do not export."""
    sources = [path for folder in ("store", "worker") for path in (ROOT / folder).rglob("*.py")]
    classes = {
        node.name
        for source in sources
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.ClassDef)
    }
    packages = map(importlib.import_module, PACKAGES)
    public = {name for package in packages for name in package.__all__}
    public.add("ProgressMessage")  # the attribute of the table, not the class
    text = re.sub(r"^```.*?^```|^#+ .*?$|^- `.*?`", "", REFERENCE, flags=re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"\b[A-Z][a-z]+[A-Z]\w+", text))
    assert len(named) > 10
    assert sorted(named & classes - public) == []


def test_every_label_is_explained() -> None:
    """The labels in the generated table are explained under Labels, except obvious ones."""
    page = (DOCS / "metrics.md").read_text()
    table, _, rest = page.partition("<!-- end -->")
    labels = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"\| \w+ \| (.*?) \|", table))))
    first_columns = re.findall(r"^\| (.*?) \|", rest, re.MULTILINE)
    explained = set(re.findall(r"`(\w+)`", " ".join(first_columns)))
    assert labels - explained == {"loop", "version", "python", "distribution"}


def test_commands_on_the_page_exist() -> None:
    """Each command and option in docs/operations.md is known to the CLI."""
    commands = set(re.findall(r"`streamer-worker ([^`]+)`", OPERATIONS.replace("\n", " ")))
    assert len(commands) > 10
    for line in commands:
        name, *arguments = line.split()
        command = get_command(cli).load_commands()[name]  # type: ignore[attr-defined]
        if hasattr(command, "commands"):
            command = command.commands[arguments.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts}
        options = {argument for argument in arguments if argument.startswith("--")}
        assert options <= known, line


def test_stop_timeouts_are_the_same_everywhere() -> None:
    """docs/operations.md and the systemd unit give a worker the same time to stop."""
    assert "--stop-timeout 70" in OPERATIONS
    assert "terminationGracePeriodSeconds: 70" in OPERATIONS
    unit = (ROOT / "deploy" / "systemd" / "streamer-worker@.service").read_text()
    assert "TimeoutStopSec=70" in unit
