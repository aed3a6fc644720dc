"""Events in the log, and the lines of handlers."""

from __future__ import annotations

import logging
import math
import re
from typing import Any

import pytest
import structlog

from streamer_store import CallEnded, Claim, StoreUnavailable, TryFailed
from streamer_worker import Context, Reject, RetryLater, handler
from streamer_worker.events import (
    ClaimReleased,
    ClaimTried,
    ConnectionsReaped,
    Event,
    Events,
    FleetObserved,
    HandlerRaised,
    HeartbeatTried,
    ItemUndecodable,
    LoopBlocked,
    LoopLagMeasured,
    Polled,
    ProcessEnding,
    RequestFinished,
    ScheduleSuspended,
    ScheduleTicksMissed,
    SlotsChanged,
    StepFailed,
    WorkerFenced,
    WriteFenced,
)
from streamer_worker.monitoring.logs import LogListener
from unit.worker.benches import DispatchBench
from unit.worker.exposed import EVERY_EVENT, started
from unit.worker.harness import World
from unit.worker.output import Output

pytestmark = pytest.mark.usefixtures("logging_restored")


def test_the_text_of_an_error_is_cut() -> None:
    """A very long error is one line of limited length."""
    (line,) = Output().log_event(StepFailed(loop="poll", error=ValueError("x" * 100_000)))
    assert len(line["error"]) <= 2000
    assert line["error_type"] == "ValueError"


def test_every_event_is_logged_under_its_name() -> None:
    """The name is in snake case, with the fields. Frequent events are only counted as metrics."""
    output = Output(level="debug")
    listener = LogListener(output.worker_log)
    for event in EVERY_EVENT:
        listener(event)
    assert [line["event"] for line in output.lines] == [
        "worker_started",
        "worker_draining",
        "worker_stopped",
        "worker_fenced",
        "dead_worker_removed",
        "heartbeat_tried",
        "fleet_observed",
        "loop_blocked",
        "process_ending",
        "signal_handlers_restored",
        "request_rescued",
        "table_mismatch",
        "polled",
        "claim_tried",
        "request_started",
        "handler_raised",
        "handler_stuck",
        "stuck_handler_ended",
        "action_unknown",
        "clock_jumped",
        "clock_skewed",
        "action_settings_unused",
        "rate_limit_measured",
        "request_finished",
        "settle_delayed",
        "settles_resumed",
        "log_lines_suppressed",
        "table_unavailable",
        "table_available",
        "calls_refused",
        "progress_dropped",
        "connections_reaped",
        "item_undecodable",
        "step_failed",
        "payload_refused",
        "lifespan_failed",
        "child_started",
        "child_ended",
        "write_fenced",
        "progress_written",
        "checkpoint_delayed",
        "push_tried",
        "endpoint_refused",
        "push_logged",
        "connection_suspended",
        "connection_gone",
        "push_service_failed",
        "claim_released",
        "queue_measured",
        "queue_measured",
        "unhandled_measured",
        "schedule_defined",
        "schedule_ticked",
        "schedule_ticks_missed",
        "schedule_suspended",
        "schedule_ended",
        "pause_started",
        "pause_ended",
        "fuse_blown",
        "fuse_probed",
        "request_finished",
        "try_failed",
    ]


def finished(outcome: str) -> Event:
    return RequestFinished(
        request_id="r", action="a", attempt=1, outcome=outcome, code=None, seconds=1.0
    )


def fenced(*, cancelled: bool) -> Event:
    return WriteFenced(request_id="r", operation="complete", cancelled=cancelled, settles=True)


def reaped(found: int, undecodable: int = 0) -> Event:
    return ConnectionsReaped(
        found=found, deleted=0, kept=0, undecodable=undecodable, dry_run=False, seconds=1.0
    )


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (SlotsChanged(used=1, total=2), None),
        (ScheduleTicksMissed(schedule="nightly", count=1, paused=False), "warning"),
        (ScheduleTicksMissed(schedule="nightly", count=1, paused=True), "info"),
        (ScheduleSuspended(schedule="nightly", reason="x"), "warning"),
        (LoopLagMeasured(lag=0.1), None),
        (CallEnded(operation="Query", seconds=0.1), None),
        (TryFailed(operation="Query", code="ThrottlingException", throttled=True), "debug"),
        (fenced(cancelled=False), "warning"),
        (fenced(cancelled=True), "debug"),
        (Polled(outcome="empty", seconds=0.1, candidates=0, claimed=0), "debug"),
        (ClaimTried(request_id="r", action="report", outcome="lost"), "debug"),
        (
            ClaimTried(
                request_id="r", action="report", outcome="error", error=StoreUnavailable("x")
            ),
            "warning",
        ),
        (HandlerRaised(request_id="r", action="a", error=ValueError("x")), "warning"),
        (HandlerRaised(request_id="r", action="a", error=RetryLater(after=1)), "debug"),
        (HandlerRaised(request_id="r", action="a", error=Reject("x")), "debug"),
        (ClaimReleased(request_id="r"), "info"),
        (finished("completed"), "info"),
        (finished("released"), "info"),
        (finished("cancelled"), "info"),
        (finished("retried"), "info"),
        (finished("snoozed"), "info"),
        (finished("timeout"), "warning"),
        (HeartbeatTried(outcome="ok", seconds=0.1), "debug"),
        (HeartbeatTried(outcome="failed", seconds=0.1, error=StoreUnavailable("x")), "warning"),
        (FleetObserved(live=1, dead=0, leads=True), "debug"),
        (WorkerFenced(worker_id="w", reason="x", in_flight=0), "warning"),
        (LoopBlocked(seconds=1.0, stack="x"), "warning"),
        (ProcessEnding(reason="x", stacks="x"), "error"),
        (finished("failed"), "warning"),
        (finished("claim_lost"), "warning"),
        (finished("unsettled"), "warning"),
        (reaped(0), "debug"),
        (reaped(1), "info"),
        (reaped(0, undecodable=1), "info"),
        (StepFailed(loop="poll", error=ValueError("x")), "error"),
        (ItemUndecodable(table="t", key="k", reason="r"), "warning"),
        (started(), "info"),
    ],
)
def test_levels_follow_the_need_for_attention(event: Event, level: str | None) -> None:
    """Routine is debug, the end of a request info, and anything an operator should see is more."""
    lines = Output(level="debug").log_event(event)
    assert [line["level"] for line in lines] == ([] if level is None else [level])


def test_a_line_below_the_level_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request has several such events. Only the levels of the settings decide."""
    made: list[Any] = []

    def record(line: Any) -> bool:
        made.append(line)
        return True

    monkeypatch.setattr("streamer_worker.monitoring.worker_log.is_plain", record)
    output = Output(level="warning")
    assert not output.log_event(finished("completed"))
    assert not made
    assert len(output.log_event(finished("failed"))) == len(made) == 1


def test_fields_that_are_none_are_left_out() -> None:
    """A line has no `code: null`."""
    (line,) = Output().log_event(finished("completed"))
    assert "code" not in line
    assert line["outcome"] == "completed"


@pytest.mark.parametrize("chosen", ["json", "console"])
def test_events_look_like_lines_of_the_workers_logger(
    chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events bypass structlog's loggers. Both have the same fields in the same order, escaped in
    the same way, with those that are bound to the context.
    """
    monkeypatch.setenv("COLUMNS", "200")
    output = Output(format=chosen)
    listener = LogListener(output.worker_log)
    logger = output.worker_log.logger("streamer_worker")
    error = ValueError("two\nlines\x1b[31m")
    with structlog.contextvars.bound_contextvars(worker_id="w\x07", loop="bound", tags={1: "x"}):
        listener(StepFailed(loop="poll", error=error))
        listener(ClaimReleased(request_id="red\x1b[31m"))
        length = len(output.text)
        logger.error(
            "step_failed", loop="poll", error_type="ValueError", exc_info=error, error=str(error)
        )
        logger.info("claim_released", request_id="red\x1b[31m")
    events, lines = (
        re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z|\d\d:\d\d:\d\d\.\d{3}", "<time>", text)
        for text in (output.text[:length], output.text[length:])
    )
    assert events == lines
    assert events.count("x07") == 2


@pytest.mark.parametrize("seconds", [0.25, 1e-07, 1e22, 3, 2**60, math.nan, math.inf])
@pytest.mark.parametrize("action", ["a", 'ö"\\\u2028', "\x7f", "two\nlines", ""])
@pytest.mark.parametrize("bound", ["w", None, True, ("a", 1), {"exception": "x"}])
def test_plain_events_are_the_same_json(seconds: float, action: str, bound: Any) -> None:
    """Lines without anything to escape are made in one pass, with the JSON of the encoder."""
    output = Output()
    event = RequestFinished(
        request_id="r", action=action, attempt=1, outcome="completed", code=None, seconds=seconds
    )
    logger = output.worker_log.logger("streamer_worker")
    fields = {name: getattr(event, name) for name in event.__slots__ if name != "code"}
    names = bound if isinstance(bound, dict) else {"bound": bound, "b d": "x"}
    with structlog.contextvars.bound_contextvars(**names):
        LogListener(output.worker_log)(event)
        logger.info("request_finished", **fields)
    ours, theirs = re.sub(r'timestamp": "[^"]*"', "", output.text).splitlines()
    assert ours == theirs


@pytest.mark.anyio
async def test_a_handlers_own_logs_name_its_request(world: World) -> None:
    """This holds for structlog and the standard library. Nothing is bound outside of a handler."""
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
        assert (line["attempt"], line["worker_id"]) == (1, claim.request.worker_id)
    assert "request_id" not in last


@pytest.mark.anyio
async def test_no_payload_and_no_result_is_logged(world: World) -> None:
    """This holds for every outcome, at every level."""
    output = Output(level="debug")
    world.events = Events(LogListener(output.worker_log))

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
