"""What the CLI prints: one line for each item, even if the tables hold hostile text."""

from __future__ import annotations

import ast
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from streamer_worker.cli import output
from streamer_worker.cli.main import accept_any_character

HOSTILE = "a\nfailed  b\r\x1b[31mred\x9b2J\u2028\u202ec\td\x00\x7f\ud800"
FOLDER = Path(output.__file__).parent
_CALLS = {"print", "echo", "secho", "Console", "confirm", "prompt", "dumps"}


def called(path: Path) -> set[str]:
    """Return the names of the functions that a module calls."""
    nodes = ast.walk(ast.parse(path.read_text()))
    functions = [node.func for node in nodes if isinstance(node, ast.Call)]
    return {getattr(function, "id", getattr(function, "attr", "")) for function in functions}


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda path: path.name)
def test_one_module_prints(path: Path) -> None:
    """Only output.py prints, so a new command cannot forget to escape. The demo is exempt."""
    if path.name not in {"output.py", "demo.py"}:
        assert called(path) & _CALLS == set()


@pytest.mark.parametrize("err", [False, True])
def test_a_message_is_one_line(capsys: pytest.CaptureFixture[str], *, err: bool) -> None:
    """A text with line breaks is printed as one line, on stdout and on stderr."""
    output.print_line(HOSTILE, err=err)
    stdout, stderr = capsys.readouterr()
    text = stderr if err else stdout
    assert text.count("\n") == 1
    assert text[:-1].isprintable()
    assert r"a\nfailed  b\r\x1b[31mred\x9b2J" in text


def test_an_error_is_a_line_for_each_detail(capsys: pytest.CaptureFixture[str]) -> None:
    """The headline is the first line. Rich's markup is not interpreted."""
    output.print_error(f"[bold]{HOSTILE}", [HOSTILE, "second"])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("error: [bold]a")
    assert lines[2] == "  second"
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("indent", [None, 2])
def test_json_is_printable_and_whole(indent: int | None) -> None:
    """The printed JSON parses to the original value. Letters are not escaped."""
    value = {HOSTILE: [HOSTILE, "Größe 数 😀"], "long": "x" * 200_000, "n": 1.5}
    text = output.json_text(value, indent=indent)
    assert all(line.isprintable() for line in text.split("\n"))
    assert "Größe 数 😀" in text
    assert json.loads(text) == value
    assert (indent is None) == ("\n" not in text)


def test_binary_values_and_sets_are_printed_as_they_are_pushed() -> None:
    """Not as Python writes them. A number that no float holds keeps its digits, as text."""
    number = Decimal("0.12345678901234567890123")
    value = {"data": b"\x00\xff", "tags": {"b", "a"}, "exact": number}
    assert json.loads(output.json_text(value)) == {
        "data": "AP8=",
        "tags": ["a", "b"],
        "exact": str(number),
    }


def test_a_row_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Line breaks and tabs in any column are escaped. A tab separates the columns."""
    monkeypatch.setenv("COLUMNS", "600")
    output.print_table(("id", "host"), [(HOSTILE, HOSTILE), ("second", "")])
    lines = capsys.readouterr().out.splitlines()
    assert (len(lines), lines[2]) == (3, "second\t-")
    assert all(line.count("\t") == 1 for line in lines)
    assert all(line.replace("\t", "").isprintable() for line in lines)


def test_a_long_text_fills_no_screens(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells of 200 KB are truncated to a few lines. An id of 128 characters is not truncated."""
    monkeypatch.setenv("COLUMNS", "120")
    long = "x" * 200_000
    output.print_table(("id", "action", "host"), [(long, long, long), ("i" * 128, "a", "b")])
    output.print_fields([("action", long)])
    output.print_line(long)
    output.print_error(long, [long])
    out, err = capsys.readouterr()
    assert "i" * 128 in out
    assert len(out + err) < 20_000
    assert "…" in out


def test_fields_cannot_be_forged(capsys: pytest.CaptureFixture[str]) -> None:
    """A line break in a value does not start a new field."""
    output.print_fields([("error", "it broke\nstatus  COMPLETED"), ("status", "FAILED")])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["error", "status"]


def test_a_character_that_stdout_lacks_is_escaped(tmp_path: Any) -> None:
    """A terminal in another encoding gets an escape instead of a traceback."""
    with (
        (tmp_path / "out").open("w", encoding="latin-1") as stream,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("sys.stdout", stream)
        accept_any_character()
        output.print_line("Größe 数")
    assert (tmp_path / "out").read_text("latin-1") == "Größe \\u6570\n"


def test_states_are_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each change, on stderr."""
    with output.status_spinner("Restoring") as on_status:
        for state in ("CREATING", "CREATING", "ACTIVE"):
            on_status("requests", state)
        on_status(HOSTILE, "ACTIVE")
    stdout, stderr = capsys.readouterr()
    lines = stderr.splitlines()
    assert (stdout, lines[:2], len(lines)) == ("", ["requests: CREATING", "requests: ACTIVE"], 3)
    assert lines[2].isprintable()


def test_states_are_counted_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the text, which is removed at the end."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with output.status_spinner("Restoring") as on_status:
        for name, state in (("a", "CREATING"), ("b", "CREATING"), ("a", "ACTIVE")):
            on_status(name, state)
    stderr = capsys.readouterr().err
    assert "Restoring: 1 ACTIVE, 1 CREATING" in stderr
    assert "a: " not in stderr
