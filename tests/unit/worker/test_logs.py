"""Structured logs."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from streamer_store import Claim, StoreUnavailable
from streamer_worker import Context, handler
from streamer_worker.events import (
    ClaimTried,
    ConnectionsReaped,
    Event,
    Events,
    ItemUndecodable,
    Polled,
    RequestFinished,
    SlotsChanged,
    StepFailed,
    WorkerStarted,
)
from streamer_worker.logs import LogListener, configure_logging
from streamer_worker.settings import LogSettings
from unit.worker.benches import DispatchBench
from unit.worker.harness import World
from unit.worker.test_metrics import EVERY_EVENT

NASTY = "red \x1b[31m bell \x07 right\u202eleft lone \ud800"
FORBIDDEN = set("\x1b\x07\u202e\ud800")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    for name in ("botocore", "aiobotocore", "aiohttp"):
        logging.getLogger(name).setLevel(logging.NOTSET)


class Output:
    """What was logged since, under the settings given."""

    def __init__(self, *, terminal: bool = False, **settings: Any) -> None:
        self.stream = Terminal() if terminal else io.StringIO()
        configure_logging(LogSettings(**settings), stream=self.stream)
        self.log = structlog.get_logger("my.plugin")

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    def tell(self, event: Event) -> list[dict[str, Any]]:
        LogListener()(event)
        return self.lines


def test_away_from_a_terminal_each_line_is_json() -> None:
    """Event name, level, logger, time and fields."""
    output = Output()
    output.log.info("rows_read", rows=3)
    (line,) = output.lines
    assert (line["event"], line["level"], line["logger"]) == ("rows_read", "info", "my.plugin")
    assert line["rows"] == 3
    assert line["timestamp"].endswith("Z")


def test_the_standard_librarys_records_look_the_same() -> None:
    """Libraries that know nothing of structlog are in the same stream, `extra` included."""
    output = Output()
    logging.getLogger("some.library").warning("read %d rows", 3, extra={"table": "t"})
    (line,) = output.lines
    assert (line["event"], line["level"]) == ("read 3 rows", "warning")
    assert (line["logger"], line["table"]) == ("some.library", "t")


@pytest.mark.parametrize(
    ("terminal", "chosen", "is_json"),
    [
        (False, "auto", True),
        (True, "auto", False),
        (False, "console", False),
        (True, "json", True),
    ],
)
def test_the_format_follows_the_terminal_unless_chosen(
    chosen: str, *, terminal: bool, is_json: bool
) -> None:
    """People on a terminal get lines to read, everything else gets JSON."""
    output = Output(terminal=terminal, format=chosen)
    output.log.info("rows_read")
    assert "rows_read" in output.text
    assert output.text.startswith("{") is is_json


def test_colours_are_for_terminals_only() -> None:
    """A file that was asked for console lines holds no escape sequences."""
    output = Output(format="console")
    output.log.info("rows_read", rows=3)
    assert "\x1b" not in output.text


def test_what_is_below_the_level_is_left_out() -> None:
    """For structlog and the standard library alike."""
    output = Output(level="warning")
    for log in (output.log, logging.getLogger("some.library")):
        log.info("no")
        log.warning("yes")
    assert [line["event"] for line in output.lines] == ["yes", "yes"]


@pytest.mark.parametrize("name", ["botocore", "aiobotocore.endpoint", "aiohttp.client"])
def test_clients_never_tell_the_bodies_of_requests(name: str) -> None:
    """They do so at debug level, payloads and all."""
    output = Output(level="debug")
    logging.getLogger(name).debug("body: secret")
    assert output.text == ""


@pytest.mark.parametrize("chosen", ["json", "console"])
@pytest.mark.parametrize("source", ["structlog", "standard", "field", "extra"])
def test_control_characters_are_escaped(chosen: str, source: str) -> None:
    """No text from elsewhere drives a terminal."""
    output = Output(format=chosen)
    standard = logging.getLogger("some.library")
    {
        "structlog": lambda: output.log.info(NASTY),
        "standard": lambda: standard.info("%s", NASTY),
        "field": lambda: output.log.info("x", field=NASTY),
        "extra": lambda: standard.info("x", extra={"field": NASTY}),
    }[source]()
    _assert_clean(output, chosen)


@pytest.mark.parametrize("chosen", ["json", "console"])
@pytest.mark.parametrize("source", ["structlog", "standard"])
def test_control_characters_in_exceptions_are_escaped(chosen: str, source: str) -> None:
    """A traceback's text comes from elsewhere, too."""
    output = Output(format=chosen)
    log = output.log if source == "structlog" else logging.getLogger("some.library")
    try:
        raise ValueError(NASTY)
    except ValueError:
        log.exception("failed")
    _assert_clean(output, chosen)
    assert "ValueError" in output.text
    assert "test_logs.py" in output.text


def _assert_clean(output: Output, chosen: str) -> None:
    shown = output.text if chosen == "console" else "".join(map(str, output.lines[0].values()))
    assert not FORBIDDEN & set(shown)
    assert "x1b[31m" in shown


@pytest.mark.parametrize("chosen", ["json", "console"])
@pytest.mark.parametrize("terminal", [False, True])
def test_tracebacks_show_no_local_variables(chosen: str, *, terminal: bool) -> None:
    """They would hold payloads."""
    output = Output(format=chosen, terminal=terminal)

    def work(payload: dict[str, str]) -> None:
        del payload["missing"]

    try:
        work({"iban": "DE00" + "1234"})
    except KeyError:
        output.log.exception("failed")
    assert "KeyError" in output.text
    assert "DE001234" not in output.text


@pytest.mark.parametrize("chosen", ["json", "console"])
def test_a_long_traceback_keeps_its_end(chosen: str) -> None:
    """The last line says what happened."""
    output = Output(format=chosen)

    def dive(depth: int) -> None:
        if depth == 0:
            raise ValueError("the reason")
        (dive if depth % 2 else dive_too)(depth - 1)

    def dive_too(depth: int) -> None:
        dive(depth)

    try:
        dive(100)
    except ValueError:
        output.log.exception("failed")
    assert "ValueError: the reason" in output.text


def test_the_text_of_an_error_is_cut() -> None:
    """An error as long as a book is one line of reasonable length."""
    (line,) = Output().tell(StepFailed(loop="poll", error=ValueError("x" * 100_000)))
    assert len(line["error"]) <= 2000
    assert line["error_type"] == "ValueError"


def test_every_event_is_logged_under_its_name() -> None:
    """In snake case with its fields; only the slots, which change all the time, are left out."""
    output = Output(level="debug")
    listener = LogListener()
    for event in EVERY_EVENT:
        listener(event)
    assert [line["event"] for line in output.lines] == [
        "worker_started",
        "worker_draining",
        "worker_stopped",
        "table_differs",
        "polled",
        "claim_tried",
        "request_started",
        "request_finished",
        "settle_delayed",
        "progress_dropped",
        "connections_reaped",
        "item_undecodable",
        "step_failed",
    ]


def finished(outcome: str) -> Event:
    return RequestFinished(
        request_id="r", action="a", attempt=1, outcome=outcome, code=None, seconds=1.0
    )


def reaped(found: int, undecodable: int = 0) -> Event:
    return ConnectionsReaped(
        found=found, deleted=0, kept=0, undecodable=undecodable, dry_run=False, seconds=1.0
    )


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (SlotsChanged(used=1, total=2), None),
        (Polled(outcome="empty", seconds=0.1, candidates=0, claimed=0), "debug"),
        (ClaimTried(request_id="r", outcome="lost"), "debug"),
        (ClaimTried(request_id="r", outcome="error", error=StoreUnavailable("x")), "warning"),
        (finished("completed"), "info"),
        (finished("released"), "info"),
        (finished("cancelled"), "info"),
        (finished("failed"), "warning"),
        (finished("claim_lost"), "warning"),
        (finished("unsettled"), "warning"),
        (reaped(0), "debug"),
        (reaped(1), "info"),
        (reaped(0, undecodable=1), "info"),
        (StepFailed(loop="poll", error=ValueError("x")), "error"),
        (ItemUndecodable(table="t", key="k", reason="r"), "warning"),
        (WorkerStarted(worker_id="w", actions=(), concurrency=1, metrics_url=None), "info"),
    ],
)
def test_levels_say_what_needs_attention(event: Event, level: str | None) -> None:
    """Routine is debug, a request's end info, what an operator should see more."""
    lines = Output(level="debug").tell(event)
    assert [line["level"] for line in lines] == ([] if level is None else [level])


def test_fields_that_are_nothing_are_left_out() -> None:
    """No `code: null` on each line."""
    (line,) = Output().tell(finished("completed"))
    assert "code" not in line
    assert line["outcome"] == "completed"


@pytest.mark.anyio
async def test_a_handlers_own_logs_name_its_request(world: World) -> None:
    """With structlog and with the standard library; outside of it nothing is bound."""
    output = Output()

    @handler("talk")
    async def talk(_payload: dict[str, Any], _ctx: Context) -> None:
        structlog.get_logger("my.plugin").info("from_structlog")
        logging.getLogger("my.plugin").info("from_logging")

    claim = await world.claim("talk")
    await DispatchBench(world, talk).run(claim)
    output.log.info("afterwards")
    first, second, last = output.lines
    for line in (first, second):
        assert (line["request_id"], line["action"]) == (claim.request_id, "talk")
        assert line["attempt"] == 1
    assert "request_id" not in last


@pytest.mark.anyio
async def test_no_payload_and_no_result_is_logged(world: World) -> None:
    """Whatever happens to a request, at whatever level."""
    output = Output(level="debug")
    world.events = Events(LogListener())

    @handler("secret")
    async def secret(payload: dict[str, Any], ctx: Context) -> Any:
        await ctx.progress(0.5, "half", details={"found": "s3cret-detail"})
        return {"answer": "s3cret-result", "odd": object()} if payload["odd"] else "s3cret-result"

    async def run(**payload: Any) -> Claim:
        claim = await world.claim(
            "secret", payload={"_metadata": {"t": "s3cret-meta"}, "p": "s3cret-payload"} | payload
        )
        await DispatchBench(world, secret).run(claim)
        return claim

    for odd in (False, True):
        await run(odd=odd)
    assert "request_finished" in output.text
    assert "s3cret" not in output.text
