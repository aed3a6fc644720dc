"""The screen of `status`: its lines, its width, and texts from outside."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from streamer_store import RequestStatus, TableNames
from streamer_worker.cli.status.as_json import json_value
from streamer_worker.cli.status.finding import Finding
from streamer_worker.cli.status.findings import findings_of
from streamer_worker.cli.status.snapshot import EndedRequest, Sample, Snapshot
from streamer_worker.cli.status.view import error_screen, screen
from unit.worker.cli.status.snapshots import NOW, TARGET, depth, ended, snapshot, worker

HOSTILE = "a\nforged\r\x1b[31mred\x9b1A\u2028\u202e[bold]" + "x" * 5000
DEPTHS = {
    RequestStatus.PENDING: depth(1000, more=True, age=42),
    RequestStatus.RETRYING: depth(3, age=10, later=20, later_more=True),
    RequestStatus.SCHEDULED: depth(0, oldest=None, later=7),
    RequestStatus.PROCESSING: depth(4, age=125),
}
UUID = "3f6c8a52-7d1e-4c0a-9a55-5d2f6f0f9a11"


def drawn(given: Snapshot, width: int = 80, findings: list[Finding] | None = None) -> list[str]:
    file = io.StringIO()
    found = findings_of(given, max_age=300.0) if findings is None else findings
    Console(file=file, width=width).print(screen(given, found))
    return [line.rstrip() for line in file.getvalue().splitlines()]


def line(lines: list[str], start: str) -> str:
    return next(each for each in lines if each.strip().startswith(start))


def test_names_without_a_common_prefix_have_a_line_of_their_own() -> None:
    """The headline has the address, which is not cut. The names wrap."""
    names = TableNames.from_prefix("x_", {"requests": "jobs-" + "j" * 60})
    lines = drawn(snapshot(target=replace(TARGET, tables=names)))
    assert lines[0].startswith("ok  http://127.0.0.1:8000 (eu-west-1)")
    shown = "".join(each[len("tables   ") :] for each in lines[1 : lines.index("")])
    assert shown.replace(" ", "") == str(names).replace(" ", "")
    assert lines[1] == "tables   x_connections,"


def test_a_screen_says_what_is() -> None:
    """Target, workers, depths, rates and failures are on it."""
    given = snapshot(
        worker("20260131T120000Z-0c2f8d10-4b7a"),
        worker("w2", draining=True, in_flight=0),
        depths=DEPTHS,
        completed=ended(*range(0, 300, 10)),
        failed=ended(1, 2, 400, code="BROKEN"),
    )
    lines = drawn(given)
    assert lines[0].startswith("ok  streamer_… at http://127.0.0.1:8000 (eu-west-1)")
    assert lines[0].endswith(f"{NOW:%H:%M:%S} UTC")
    assert line(lines, "workers").split("  ")[1] == (
        "2 alive, 1 draining, 8 slots, 1 request in them"
    )
    assert "20260131T120000Z-0c2f8d10-4b7a" in line(lines, "working   1/4  beat 2s ago  1.2.3")
    assert line(lines, "draining").split() == (
        ["draining", "0/4", "beat", "2s", "ago", "1.2.3", "host-a:7", "w2"]
    )
    assert line(lines, "PENDING").split()[1:3] == [">1,000", "42s"]
    assert line(lines, "PENDING").endswith("completed      6.0 a minute")
    assert line(lines, "RETRYING").split()[1:4] == ["3", "10s", ">20"]
    assert line(lines, "RETRYING").endswith("failed         0.4 a minute")
    assert line(lines, "SCHEDULED").split()[1:] == ["0", "7"]
    assert line(lines, "PROCESSING").split()[1:] == ["4", "2m"]
    assert line(lines, "failures").startswith("failures  3 in the last hour")
    assert line(lines, "3  bill").split() == ["3", "bill", "BROKEN", "bill-1"]


@pytest.mark.parametrize("width", [80, 120])
def test_a_large_deployment_fits_the_terminal(width: int) -> None:
    """One line a row, 24 lines in all, though names are long and rows are many."""
    workers = [
        worker(f"20260131T120000Z-0c2f8d10-{number:04}", host="ip-10-0-12-133.eu-west-1.internal")
        for number in range(3000)
    ]
    failures = [
        EndedRequest(request_id=UUID, action=f"generate_report_{n}", code="TIMEOUT", at=NOW)
        for n in range(100)
    ]
    given = snapshot(
        *workers, depths=DEPTHS, failed=Sample(requests=failures, full=True), completed=ended()
    )
    lines = drawn(given, width)
    assert len(lines) <= 24
    assert max(map(len, lines)) <= width
    assert any("and 2,996 more" in each for each in lines)
    assert "100 or more" in line(lines, "failures")
    assert (UUID in line(lines, "1  generate_report_0")) == (width == 120) or width == 80


def test_findings_come_first_with_what_to_do() -> None:
    """Long ones wrap beside their level. Of very many, the rest is counted."""
    long = Finding(level="problem", code="x", text="word " * 30, todo="do " * 40)
    lines = drawn(snapshot(), 80, [long, replace(long, level="notice")])
    assert lines[0].startswith("1 problem  streamer_")
    assert lines[1].startswith("problem  word")
    assert lines[2].startswith("         word")
    assert any(each.startswith("       → do") for each in lines)
    assert any(each.startswith("notice   word") for each in lines)
    many = drawn(snapshot(), 80, [long] * 30)
    assert "... and 22 more (--json)" in many


def test_what_was_not_read_is_unknown() -> None:
    """It is not shown as zero."""
    given = snapshot(
        workers=None, completed=None, failed=None, depths={RequestStatus.PENDING: depth(1)}
    )
    lines = drawn(given)
    assert line(lines, "workers") == "workers  cannot be read"
    assert line(lines, "PENDING").split() == ["PENDING", "1", "5s", "completed", "?"]
    assert line(lines, "RETRYING").split() == ["RETRYING", "?", "failed", "?"]
    assert line(lines, "failures") == "failures  cannot be read"


def test_a_rate_over_less_than_five_minutes_says_so() -> None:
    """The sample was full, so that it is measured over the time that the sample covers."""
    given = snapshot(completed=ended(*range(1, 101), full=True))
    assert line(drawn(given), "PENDING").endswith("60.0 a minute, over 100s")


def test_texts_from_outside_cannot_forge_lines() -> None:
    """They are on one line, cut, and rich does not interpret them."""
    bad = EndedRequest(request_id=HOSTILE, action=HOSTILE, code=HOSTILE, at=NOW)
    given = snapshot(
        worker(HOSTILE, host=HOSTILE, release=HOSTILE, actions=frozenset({HOSTILE})),
        depths={RequestStatus.PENDING: depth(5, action=HOSTILE + "!")},
        failed=Sample(requests=[bad] * 20),
        completed=Sample(),
        orphans=[HOSTILE],
        undecodable=[HOSTILE],
    )
    lines = drawn(given, 120)
    assert all(each.isprintable() for each in lines)
    assert not any(each.startswith("forged") for each in lines)
    assert max(map(len, lines)) <= 120


def test_an_outage_is_one_line() -> None:
    """As any error of a command."""
    file = io.StringIO()
    Console(file=file, width=80).print(error_screen("DynamoDB did\nnot answer"))
    assert file.getvalue() == "error: DynamoDB did\\nnot answer\n"


def test_json_has_the_documented_keys() -> None:
    """What could not be read is null."""
    given = snapshot(depths=DEPTHS, failed=ended(1, 2, code=""), completed=None)
    value = json_value(given, findings_of(given, max_age=300.0))
    assert json.loads(json.dumps(value)) == value
    assert set(value) == {
        *("ok", "time", "target", "findings", "workers", "workers_more", "requests", "outcomes"),
        "pauses",
        *("failures", "failures_more", "clock_offset", "read_units", "seconds"),
    }
    assert value["ok"] is True
    assert value["workers"][0]["beating"] is True
    assert value["requests"]["RETRYING"] == {
        "count": 3,
        "more": False,
        "oldest_age": 10.0,
        "later": 20,
        "later_more": True,
    }
    assert value["outcomes"] == {
        "completed": None,
        "failed": {"per_minute": 0.4, "over_seconds": 300.0},
    }
    assert value["failures"] == [{"action": "bill", "code": None, "count": 2, "example": "bill-1"}]
    nothing = json_value(snapshot(workers=None, failed=None), [])
    assert (nothing["workers"], nothing["failures"]) == (None, None)
    assert nothing["requests"]["PENDING"] is None


def test_the_screen_in_the_documentation_is_drawn_so() -> None:
    """docs/operations.md shows a screen with findings, a dead worker and failures."""
    dead = worker("20260131T115801Z-77c0a1f2-9d0e", beating=False, silence=41.0, pid=4242)
    bill = depth(212, age=340)
    mail = depth(37, age=311, action="mail")
    given = snapshot(
        worker("20260131T115512Z-0c2f8d10-4b7a", in_flight=4, actions=frozenset({"bill"})),
        dead,
        depths={
            RequestStatus.PENDING: depth(249, age=340, actions={**bill.actions, **mail.actions}),
            RequestStatus.RETRYING: depth(3, age=10, later=20),
            RequestStatus.SCHEDULED: depth(0, oldest=None, actions={}, later=7),
            RequestStatus.PROCESSING: depth(4, age=12),
        },
        completed=ended(*range(0, 300, 2)),
        failed=ended(1, 1900, code="TIMEOUT"),
    )
    text = Path(__file__).parents[5].joinpath("docs/operations.md").read_text()
    assert "\n".join(drawn(given)) in text
