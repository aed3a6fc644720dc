"""The help of each command."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from streamer_worker.cli.main import cli


def command_lines(group: TyperGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from command_lines(command, (*path, name))
        else:
            yield (*path, name)


GROUP = get_command(cli)
assert isinstance(GROUP, TyperGroup)
COMMAND_LINES = list(command_lines(GROUP))


@pytest.mark.parametrize("arguments", COMMAND_LINES, ids=" ".join)
def test_no_python_type_is_shown(arguments: tuple[str, ...]) -> None:
    """Flags and arguments have no placeholder. That of an option says what to write."""
    result = CliRunner().invoke(cli, [*arguments, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "--help" in result.output
    assert re.findall(r"<\w.*", result.output) == []
    assert re.findall(r"\b(?:BOOLEAN|INTEGER|FLOAT|TEXT)\b", result.output) == []
