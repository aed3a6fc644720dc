"""Tables: one line for each row, in a terminal of 80 or 120 columns, and in a pipe."""

from __future__ import annotations

import re
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from streamer_worker.cli.columns import SHORT_ID_CHARS, Cell, Column, shortened
from streamer_worker.cli.output import print_fields, print_rows

COLUMNS = (
    Column(name="request"),
    Column(name="status"),
    Column(name="action", can_cut=True),
    Column(name="tenant", can_cut=True, from_width=110),
    Column(name="priority", is_optional=True),
    Column(name="handles", to_width=109),
    Column(name="message", can_cut=True, is_optional=True),
)
UUIDS = ("3f6c1a2b-0000-4000-8000-000000000001", "9d1e0c77-0000-4000-8000-000000000002")
AWKWARD = "磁盘已满 😀 die Platte\nist voll\t\x1b[31m " * 9
ROWS: list[tuple[Cell, ...]] = [
    (UUIDS[0], ("FAILED", "red"), "generate_report", "t1", "", "2 actions", AWKWARD),
    (UUIDS[1], ("PENDING", ""), AWKWARD, AWKWARD, "", "2 actions", ""),
]
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def printed_on_terminal(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    width: int,
    rows: list[tuple[Cell, ...]],
) -> str:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    print_rows(COLUMNS, rows)
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [80, 120])
def test_each_row_fits_on_one_line(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wide characters count twice. What is cut ends with an ellipsis."""
    text = ESCAPES.sub("", printed_on_terminal(capsys, monkeypatch, width, ROWS))
    lines = text.splitlines()
    assert len(lines) == 3
    assert all(cell_len(line) <= width and line.isprintable() for line in lines)
    assert lines[1].split()[:3] == ["3f6c1a2b", "FAILED", "generate_report"]
    assert "…" in lines[1]
    names = lines[0].split()
    assert "priority" not in names
    assert ("tenant" in names, "handles" in names) == (width == 120, width == 80)


def test_ids_of_2_048_bytes_fit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are cut, although they differ at their ends only."""
    rows = [("x" * 2047 + end, "FAILED", "a", "", "high", "", "text") for end in "ab"]
    lines = printed_on_terminal(capsys, monkeypatch, 80, list(rows)).splitlines()
    assert len(lines) == 3
    assert all(cell_len(ESCAPES.sub("", line)) <= 80 for line in lines)
    assert "x" * 31 + "…" in lines[1]


def test_a_status_has_its_colour_unless_there_is_no_color(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """NO_COLOR is honoured (no-color.org)."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[31mFAILED" in printed_on_terminal(capsys, monkeypatch, 80, ROWS)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in printed_on_terminal(capsys, monkeypatch, 80, ROWS)


def test_a_pipe_gets_whole_ids_and_texts(capsys: pytest.CaptureFixture[str]) -> None:
    """A tab separates the columns, and an empty cell is `-`. So awk counts them right."""
    long_id = "x" * 2048
    print_rows(COLUMNS, [*ROWS, (long_id, "FAILED", "a", "t", "low", "no", "m" * 1_900)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "request\tstatus\taction\ttenant\tpriority\tmessage"
    assert [len(line.split("\t")) for line in lines] == [6] * 4
    assert lines[1].split("\t")[0] == UUIDS[0]
    assert lines[1].split("\t")[4] == "-"
    assert lines[3].split("\t") == [long_id, "FAILED", "a", "t", "low", "m" * 1_900]


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_whole_fields_on_several_lines(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text without spaces is wrapped, not cut."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    print_fields([("payload", "y" * 900)])
    lines = ESCAPES.sub("", capsys.readouterr().out).splitlines()
    assert sum(line.count("y") for line in lines) == 901
    assert all(len(line) <= width for line in lines)


def test_a_pipe_gets_one_line_for_each_field(capsys: pytest.CaptureFixture[str]) -> None:
    """Its names are aligned."""
    print_fields([("status", ("FAILED", "red")), ("payload", "y" * 900)])
    assert capsys.readouterr().out == f"status   FAILED\npayload  {'y' * 900}\n"


@given(st.lists(st.text(alphabet="ab-", min_size=1, max_size=30), max_size=12))
def test_a_short_id_begins_only_its_own_id(ids: list[str]) -> None:
    """Unless it is the whole id, which commands take for that id."""
    for request_id, short in shortened(ids).items():
        assert request_id.startswith(short)
        assert len(short) >= min(SHORT_ID_CHARS, len(request_id))
        matching = {other for other in ids if other.startswith(short)}
        assert matching == {request_id} or short == request_id


def test_ids_are_as_short_as_those_beside_them_allow() -> None:
    """Eight characters, unless others begin with the same."""
    assert shortened(["import-7-1", "import-7-10", UUIDS[0]]) == {
        "import-7-1": "import-7-1",
        "import-7-10": "import-7-10",
        UUIDS[0]: "3f6c1a2b",
    }


def test_ids_have_more_characters_where_their_beginning_says_little(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of workers begin with a time. Those of connections are whole."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    row = ("20260131T120000Z-0c2f8d10-4b7a",)
    print_rows(COLUMNS[:1], [row], shorten=partial(shortened, fewest=16))
    print_rows(COLUMNS[:1], [row], shorten=None)
    lines = ESCAPES.sub("", capsys.readouterr().out).split()
    assert lines == ["request", "20260131T120000Z", "request", *row]
