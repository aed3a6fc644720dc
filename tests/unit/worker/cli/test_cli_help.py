"""The help of each command."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from streamer_worker.cli import output
from streamer_worker.cli.group import Group
from streamer_worker.cli.main import cli


def command_lines(group: Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.load_commands().items():
        if isinstance(command, Group):
            yield from command_lines(command, (*path, name))
        else:
            yield (*path, name)


GROUP = cast("Group", get_command(cli))
COMMAND_LINES = list(command_lines(GROUP))


@pytest.mark.parametrize("arguments", COMMAND_LINES, ids=" ".join)
def test_no_python_type_is_shown(arguments: tuple[str, ...]) -> None:
    """Flags and arguments have no placeholder. That of an option says what to write."""
    result = CliRunner().invoke(cli, [*arguments, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "--help" in result.output
    assert re.findall(r"<\w.*", result.output) == []
    assert re.findall(r"\b(?:BOOLEAN|INTEGER|FLOAT|TEXT)\b", result.output) == []


def first_line(command: Any) -> str:
    text: str = command.help
    return text.split("\n\n", maxsplit=1)[0]


def test_each_command_has_the_help_that_the_list_shows() -> None:
    """The list is printed without importing the commands, from texts of its own."""
    shown = {name: command.help for name, command in GROUP.commands.items()}
    loaded = GROUP.load_commands()
    assert shown == {name: first_line(command) for name, command in loaded.items()}
    assert [command.name for command in loaded.values()] == list(shown)


def test_no_command_is_missing_in_the_list() -> None:
    """Each function whose docstring has an example is a command."""

    def place(function: Any) -> tuple[str, str]:
        return function.__module__, function.__qualname__

    listed = set()
    for command in GROUP.load_commands().values():
        commands = command.commands.values() if isinstance(command, Group) else [command]
        listed |= {place(each.callback) for each in commands}
    for path in Path(inspect.getfile(output)).parent.glob("*.py"):
        for value in vars(import_module(f"streamer_worker.cli.{path.stem}")).values():
            if inspect.isfunction(value) and "Example: `streamer-worker" in (value.__doc__ or ""):
                assert place(value) in listed


def test_a_group_is_loaded_once_and_keeps_its_errors() -> None:
    """A mistyped command of a group that was loaded is refused with a suggestion."""
    result = CliRunner().invoke(cli, ["tables", "chekc"])
    assert result.exit_code == 2
    assert "Did you mean 'check'?" in result.output
