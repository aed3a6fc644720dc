"""The help of each command."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from streamer_worker.cli import output
from streamer_worker.cli.group import Group
from streamer_worker.cli.main import PROGRAM, cli


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


@pytest.mark.parametrize("arguments", [(), ("list",), ("tables",), ("tables", "check")])
def test_h_is_help(arguments: tuple[str, ...]) -> None:
    """Of each command."""
    short, long = (CliRunner().invoke(cli, [*arguments, name]) for name in ("-h", "--help"))
    assert (short.exit_code, short.output) == (0, long.output)


def completed(line: str) -> list[str]:
    """Return what a shell offers when TAB is pressed at the end of the line."""
    words = line.split(" ")
    env = {
        "_STREAMER_WORKER_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    return CliRunner().invoke(cli, [], env=env, prog_name=PROGRAM).output.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("streamer-worker li", ["list"]),
        ("streamer-worker tables cr", ["create"]),
        ("streamer-worker list --stat", ["--status"]),
        ("streamer-worker list --status c", ["COMPLETED", "CANCELLED"]),
        ("streamer-worker cancel --status P", ["PENDING", "PROCESSING"]),
        ("streamer-worker enqueue a --priority h", ["high"]),
    ],
)
def test_a_shell_completes(line: str, offered: list[str]) -> None:
    """Commands, options, statuses and priorities."""
    assert completed(line) == offered


@pytest.mark.parametrize(
    "line", ["enqueue a --priority urgent", "list --status urgent", "connections list --limit x"]
)
def test_a_wrong_value_is_refused_in_plain_words(line: str) -> None:
    """Without the words of the library that checks it. The exit code is 2."""
    refused = CliRunner().invoke(cli, line.split())
    assert refused.exit_code == 2
    assert "Invalid value for '--" in refused.output
    assert "Value error" not in refused.output


def test_the_module_is_the_program() -> None:
    """`python -m streamer_worker` has the program's name in its help."""
    ended = subprocess.run(
        [sys.executable, "-m", "streamer_worker", "list", "-h"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "Usage: streamer-worker list" in ended.stdout


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
        commands = [*command.commands.values()] if isinstance(command, Group) else []
        listed |= {place(each.callback) for each in (command, *commands) if each.callback}
    folder = Path(inspect.getfile(output)).parent
    for path in folder.rglob("*.py"):
        name = ".".join(path.relative_to(folder).with_suffix("").parts)
        for value in vars(import_module(f"streamer_worker.cli.{name}")).values():
            if inspect.isfunction(value) and "Example: `streamer-worker" in (value.__doc__ or ""):
                assert place(value) in listed


def test_a_group_is_loaded_once_and_keeps_its_errors() -> None:
    """A mistyped command of a group that was loaded is refused with a suggestion."""
    result = CliRunner().invoke(cli, ["tables", "chekc"])
    assert result.exit_code == 2
    assert "Did you mean 'check'?" in result.output
