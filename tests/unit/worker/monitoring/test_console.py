"""The log as a person sees it."""

from __future__ import annotations

import fcntl
import logging
import os
import pty
import re
import struct
import termios
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from streamer_store import AccessDenied, StoreUnavailable
from streamer_worker.events import (
    CallsRefused,
    ClaimReleased,
    ConnectionsReaped,
    DeadWorkerRemoved,
    HandlerRaised,
    LoopBlocked,
    RequestFinished,
    StepFailed,
    TableAvailable,
    TableUnavailable,
    WorkerFenced,
)
from streamer_worker.monitoring.console import console_columns
from streamer_worker.monitoring.logs import LogListener
from streamer_worker.own_logger import get_logger
from unit.worker.exposed import EVERY_EVENT, started
from unit.worker.output import Output

if TYPE_CHECKING:
    from streamer_worker.events import Event

pytestmark = pytest.mark.usefixtures("logging_restored")

REQUEST = "9018bf53-a91a-4c64-b616-f34889cf7ab7"
WORKER = "20261126T225259Z-23fcc295-729c"
OTHER = "20261126T225259Z-77aa01bc-0e1f"
AWAY = StoreUnavailable(
    'DynamoDB did not answer: Could not connect to the endpoint URL: "http://127.0.0.1:56021/"',
    operation="UpdateItem",
    table="streamer_workers",
    key=WORKER,
)
FINISHED = RequestFinished(
    request_id=REQUEST,
    action="reports.render",
    attempt=1,
    outcome="completed",
    code=None,
    seconds=0.2159559569990961,
)
STAMP = re.compile(r"^\d\d:\d\d:\d\d\.\d{3} ")


@pytest.fixture(autouse=True)
def columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def lines_of(event: Event) -> list[str]:
    """Return the lines of an event, without the time."""
    output = Output(format="console", level="debug")
    LogListener(output.worker_log)(event)
    return [STAMP.sub("", line) for line in output.text.splitlines()]


def real(event: Event) -> Event:
    """Return the event with ids, errors and numbers as long as real ones."""
    changes: dict[str, Any] = {}
    for name in event.__slots__:
        value = getattr(event, name)
        if name in {"worker_id", "removed_by"} and value is not None:
            changes[name] = WORKER
        elif name == "request_id" and value is not None:
            changes[name] = REQUEST
        elif isinstance(value, StoreUnavailable):
            changes[name] = AWAY
        elif isinstance(value, float):
            changes[name] = 12.2159559569990961
    changed: Event = replace(event, **changes)
    return changed


@pytest.mark.parametrize("event", EVERY_EVENT, ids=lambda event: type(event).__name__)
def test_every_event_is_one_line_of_100_columns(event: Event) -> None:
    """Only stacks are below it, and they are indented."""
    output = Output(format="console", level="debug")
    LogListener(output.worker_log)(real(event))
    first, *below = output.text.splitlines() or [""]
    assert len(first) <= 100
    assert all(line.startswith("    ") for line in below)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (FINISHED, "info    request_finished reports.render 9018bf53 completed 0.216s"),
        (
            replace(FINISHED, outcome="failed", code="TIMEOUT", attempt=3, seconds=61.04),
            "warning request_finished reports.render 9018bf53 failed 61s code=TIMEOUT attempt=3",
        ),
        (
            started(
                worker_id=WORKER,
                endpoint="http://127.0.0.1:8155",
                region="us-east-1",
                concurrency=32,
            ),
            ("info    worker_started 23fcc295 endpoint=http://127.0.0.1:8155 region=us-east-1"),
        ),
        (
            WorkerFenced(worker_id=WORKER, reason="its row was removed", in_flight=3),
            'warning worker_fenced 23fcc295 in_flight=3 reason="its row was removed"',
        ),
        (
            DeadWorkerRemoved(
                worker_id=OTHER, host="ip-10-0-0-7", removed_by=WORKER, silence=16.52, in_flight=12
            ),
            "warning dead_worker_removed 77aa01bc removed_by=23fcc295 silence=16.5 in_flight=12",
        ),
        (
            StepFailed(loop="poll", error=AWAY),
            (
                "error   step_failed loop=poll"
                " DynamoDB did not answer: Could not connect to the endpoi…"
            ),
        ),
        (
            TableUnavailable(seconds=60.02, failures=40, outcomes=2, error=AWAY),
            (
                "warning table_unavailable 60s"
                " failures=40 outcomes=2 DynamoDB did not answer: Could no…"
            ),
        ),
        (
            CallsRefused(failures=2, calls=("Query t_requests",), error=AccessDenied("denied")),
            'error   calls_refused failures=2 calls="Query t_requests" denied',
        ),
        (
            TableAvailable(seconds=123.4, failures=80, outcomes=2, longest_wait=1.237),
            "info    table_available 123s failures=80 outcomes=2 longest_wait=1.24",
        ),
        (
            ConnectionsReaped(
                found=7, deleted=0, kept=0, undecodable=0, dry_run=True, seconds=float("nan")
            ),
            "info    connections_reaped nans found=7 deleted=0 kept=0 undecodable=0 dry_run",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_important_fields_come_first(event: Event, line: str) -> None:
    """Ids are short, numbers are rounded, and flags are shown if they are true."""
    assert lines_of(event) == [line]


def test_the_time_is_local_and_to_the_millisecond() -> None:
    """As the clock on the wall shows it."""
    output = Output(format="console")
    before = datetime.now().astimezone()
    output.log.info("x")
    shown = datetime.strptime(output.text[:12], "%H:%M:%S.%f")  # noqa: DTZ007  it is local
    difference = timedelta(hours=shown.hour, minutes=shown.minute, seconds=shown.second)
    passed = difference - timedelta(hours=before.hour, minutes=before.minute, seconds=before.second)
    assert timedelta() <= passed % timedelta(days=1) < timedelta(seconds=10)
    assert output.text[12] == " "


def test_stacks_are_below_their_line_and_indented() -> None:
    """A stack of a blocked loop and the traceback of a handler."""
    stack = '  File "x.py", line 1, in hog\n    time.sleep(3)\n'
    assert lines_of(LoopBlocked(seconds=1.0, action="a", request_id=REQUEST, stack=stack)) == [
        "warning loop_blocked a 9018bf53 1s",
        '      File "x.py", line 1, in hog',
        "        time.sleep(3)",
    ]
    assert lines_of(HandlerRaised(request_id=REQUEST, action="a", error=ValueError("bad"))) == [
        "warning handler_raised a 9018bf53 ValueError: bad",
        "    ValueError: bad",
    ]


def test_lines_of_handlers_are_whole() -> None:
    """They begin with the request. Their own fields are not rounded and not cut."""
    output = Output(format="console")
    with structlog.contextvars.bound_contextvars(
        worker_id=WORKER, request_id=REQUEST, action="a", attempt=2
    ):
        structlog.get_logger("my.plugin").info(
            "rows", took=1.23456789, error_type="T", text="x y" * 50
        )
        logging.getLogger("my.library").warning("read %d", 3)
    get_logger("streamer_worker.handler").bind(request_id=REQUEST, action="a").info("hello")
    assert [STAMP.sub("", line) for line in output.text.splitlines()] == [
        (
            "info    rows [my.plugin] a 9018bf53 attempt=2 took=1.23456789 error_type=T"
            f' text="{"x y" * 50}"'
        ),
        "warning read 3 [my.library] a 9018bf53 attempt=2",
        "info    hello a 9018bf53",
    ]


def test_what_is_bound_to_the_context_is_at_the_end_of_an_event() -> None:
    """The worker emits most events about a request in its context."""
    with structlog.contextvars.bound_contextvars(
        worker_id=WORKER, request_id=REQUEST, action="bound", attempt=1
    ):
        assert lines_of(FINISHED) == [
            "info    request_finished reports.render 9018bf53 completed 0.216s worker_id=23fcc295"
        ]
        first, *_ = lines_of(HandlerRaised(request_id=REQUEST, action="a", error=ValueError("x y")))
        assert first == "warning handler_raised a 9018bf53 worker_id=23fcc295 ValueError: x y"


def test_any_values_may_be_bound_to_the_context() -> None:
    """A handler chooses names that the worker's events have, too. No line is lost or forged."""
    names = ("seconds", "attempt", "error", "worker_id", "code", "error_type")
    bound: dict[str, Any] = {name: [1, "x"] for name in names}
    for value in (["forged"], {"forged": 1}, 7):
        with structlog.contextvars.bound_contextvars(exception=value, stack=value, **bound):
            first, *below = lines_of(ClaimReleased(request_id=REQUEST))
        assert first.startswith('info    claim_released 9018bf53 seconds=[1, "x"] code=[1, "x"]')
        assert below == [f"    {value}"] * 2


def test_ids_of_ones_own_stay_whole() -> None:
    """The first 8 characters of `import-7-000123` would not tell requests apart."""
    (line,) = lines_of(replace(FINISHED, request_id="import-7-000123"))
    assert "import-7-000123" in line


@pytest.mark.parametrize("text", ["a completed 1s", 'a" b', "a=b", ""])
def test_a_value_cannot_pass_for_several_fields(text: str) -> None:
    """Producers choose actions."""
    (line,) = lines_of(replace(FINISHED, action=text))
    quoted = text.replace('"', '\\"')
    assert line == f'info    request_finished "{quoted}" 9018bf53 completed 0.216s'


def test_values_that_are_no_texts() -> None:
    """They look like JSON."""
    output = Output(format="console")
    output.log.info("x", empty=[], many=["a", "b c"], mixed=[1, "b"], table={"a": 1}, no=None)
    assert output.text.rstrip().endswith(
        'x [my.plugin] empty=[] many="a,b c" mixed=[1, "b"] table={"a": 1} no=None'
    )


@pytest.mark.parametrize(
    ("name", "value", "colored"),
    [("TERM", "xterm", True), ("NO_COLOR", "1", False), ("TERM", "dumb", False)],
)
def test_colours_follow_the_terminal(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, *, colored: bool
) -> None:
    """NO_COLOR is honoured. The text is the same."""
    monkeypatch.setenv(name, value)
    output = Output(terminal=True)
    LogListener(output.worker_log)(StepFailed(loop="poll", error=AWAY))
    assert ("\x1b[31m" in output.text) is colored
    plain = re.sub(r"\x1b\[[\d;]*m", "", output.text)
    assert len(plain.rstrip()) == 100
    assert " step_failed loop=poll DynamoDB did not " in plain


@pytest.mark.parametrize(("value", "columns"), [("60", 60), ("10", 40), ("0", 100), ("x", 100)])
def test_columns_sets_the_width(value: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It overrides the width of the terminal, down to 40."""
    monkeypatch.setenv("COLUMNS", value)
    assert console_columns(None) == columns


def test_the_width_is_that_of_the_terminal() -> None:
    """A stream that is no terminal has 100 columns."""
    main, terminal = pty.openpty()
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 132, 0, 0))
        assert console_columns(terminal) == 132
    finally:
        os.close(main)
        os.close(terminal)
    assert console_columns(terminal) == 100
