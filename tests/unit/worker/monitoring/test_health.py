"""Whether a worker is alive and ready, judged from its events."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from streamer_store import StoreUnavailable
from streamer_worker.events import (
    Event,
    Events,
    HandlerStuck,
    HeartbeatTried,
    LoopBlocked,
    LoopLagMeasured,
    Polled,
    ProcessEnding,
    StepFailed,
    StuckHandlerEnded,
    WorkerDraining,
    WorkerFenced,
)
from streamer_worker.intake.slots import Slots
from streamer_worker.monitoring.health import Health
from streamer_worker.settings import HandlerSettings, PollSettings, PresenceSettings, Settings
from support import ManualClock
from unit.worker.exposed import started

AWAY = StoreUnavailable("the table is away")
STARTED = started(worker_id="me")
POLLED = Polled(outcome="empty", seconds=0.1, candidates=0, claimed=0)
HEARTBEAT_OK = HeartbeatTried(outcome="ok", seconds=0.1)
BEAT_FAILED = HeartbeatTried(outcome="failed", seconds=0.1, error=AWAY)
POLL_SKIPPED = Polled(outcome="skipped", seconds=0, candidates=0, claimed=0)
LOOP_RAN = LoopLagMeasured(lag=0.01)
POLL_FAILED = StepFailed(loop="poll", error=AWAY)
NO_POLL = "no poll succeeded for 30 s"
NO_BEAT = "no heartbeat succeeded for 16 s"


class Bench:
    """The health of a worker with two threads and two slots, on a clock moved by hand."""

    def __init__(self, *, max_interval: float = 0.5, concurrency: int = 2) -> None:
        settings = Settings(
            concurrency=concurrency,
            handler=HandlerSettings(threads=2),
            poll=PollSettings(max_interval=max_interval),
            presence=PresenceSettings(lease=16),
        )
        self.time = ManualClock()
        self.health = Health(settings=settings, clock=self.time)
        self.slots = Slots(2, events=Events(self.health))

    def emit(self, *events: Event) -> None:
        for event in events:
            self.health(event)

    def pass_time(self, seconds: float, *each_second: Event) -> None:
        """Let time pass, with the events of each second."""
        for _ in range(round(seconds)):
            self.time.advance(1)
            self.emit(*each_second)

    def why_not(self) -> list[str]:
        return self.health.why_not_ready()


@pytest.fixture
def bench() -> Bench:
    """Return the health of a worker that has started, polled, and sent a heartbeat."""
    bench = Bench()
    bench.emit(STARTED, POLLED, HEARTBEAT_OK)
    return bench


def stuck(*, thread: bool) -> HandlerStuck:
    return HandlerStuck(request_id="r", action="echo", reason="timeout", thread=thread)


def stuck_ended(*, thread: bool) -> StuckHandlerEnded:
    return StuckHandlerEnded(request_id="r", action="echo", thread=thread)


def test_a_worker_is_ready_once_it_has_started() -> None:
    """It is not ready while it waits for its tables or its row."""
    bench = Bench()
    assert bench.why_not() == ["not started yet"]
    bench.emit(STARTED)
    assert bench.why_not() == []


def test_before_the_start_no_polls_are_expected() -> None:
    """Only one reason is given."""
    bench = Bench()
    bench.emit(HEARTBEAT_OK)
    bench.pass_time(3600)
    assert bench.why_not() == ["not started yet"]


def test_a_worker_is_ready_while_it_polls(bench: Bench) -> None:
    """Polls and heartbeats that succeed keep it ready."""
    bench.pass_time(3600, POLLED, HEARTBEAT_OK)
    assert bench.why_not() == []


def test_a_worker_that_drains_is_not_ready(bench: Bench) -> None:
    """It still runs handlers, but claims nothing."""
    bench.emit(WorkerDraining(worker_id="me", in_flight=1))
    assert bench.why_not() == ["draining"]
    assert bench.health.why_not_alive() == []


def test_a_worker_whose_slots_have_stuck_threads_is_not_ready() -> None:
    """It may have more threads than slots."""
    bench = Bench(concurrency=1)
    bench.emit(STARTED, stuck(thread=True))
    assert bench.why_not() == ["no thread is free: 1 are used by stuck handlers"]


def test_a_worker_without_free_threads_is_not_ready(bench: Bench) -> None:
    """It is ready again when one of its stuck handlers ends."""
    bench.emit(stuck(thread=True))
    assert bench.why_not() == []
    bench.emit(stuck(thread=True))
    assert bench.why_not() == ["no thread is free: 2 are used by stuck handlers"]
    assert bench.health.why_not_alive() == []
    bench.emit(stuck_ended(thread=True))
    assert bench.why_not() == []


def test_stuck_handlers_without_a_thread_do_not_count(bench: Bench) -> None:
    """The worker is ready while they are stuck, and after they have ended."""
    bench.emit(*[stuck(thread=False)] * 9)
    assert bench.why_not() == []
    bench.emit(*[stuck_ended(thread=False)] * 9, *[stuck(thread=True)] * 2)
    assert len(bench.why_not()) == 1


def test_a_worker_whose_polls_fail_is_not_ready_until_one_succeeds(bench: Bench) -> None:
    """It takes 30 s without a successful poll: one failure is not enough."""
    bench.pass_time(30, POLL_FAILED, HEARTBEAT_OK)
    assert bench.why_not() == []
    bench.pass_time(1, POLL_FAILED, HEARTBEAT_OK)
    assert bench.why_not() == [NO_POLL]
    bench.emit(POLLED)
    assert bench.why_not() == []


def test_a_long_poll_interval_extends_the_limit() -> None:
    """The limit is three times the longest interval."""
    bench = Bench(max_interval=60)
    bench.emit(STARTED, POLLED)
    bench.pass_time(180, HEARTBEAT_OK)
    assert bench.why_not() == []
    bench.pass_time(1, HEARTBEAT_OK)
    assert bench.why_not() == ["no poll succeeded for 180 s"]


def test_a_worker_without_free_slots_need_not_poll(bench: Bench) -> None:
    """The 30 s start again when a slot is free."""
    taken = [bench.slots.take("r1"), bench.slots.take("r2")]
    bench.pass_time(3600, HEARTBEAT_OK)
    assert bench.why_not() == []
    bench.slots.release(taken[0])
    bench.pass_time(30, HEARTBEAT_OK)
    assert bench.why_not() == []
    bench.pass_time(1, HEARTBEAT_OK)
    assert bench.why_not() == [NO_POLL]


def test_a_slot_of_a_stuck_thread_may_be_freed_late(bench: Bench) -> None:
    """No polls are expected until then, although the request was settled before."""
    bench.slots.take("r1")
    kept = bench.slots.take("r2")
    bench.slots.settle(kept)
    bench.pass_time(3600, HEARTBEAT_OK)
    bench.slots.release(kept)
    assert bench.why_not() == []


def test_a_worker_without_heartbeats_is_not_ready(bench: Bench) -> None:
    """It is not ready after a lease without success, until a heartbeat succeeds."""
    bench.pass_time(16, POLLED, BEAT_FAILED)
    assert bench.why_not() == []
    bench.pass_time(1, POLLED, BEAT_FAILED)
    assert bench.why_not() == [NO_BEAT]
    bench.emit(HEARTBEAT_OK)
    assert bench.why_not() == []


@pytest.mark.parametrize(
    ("succeeds", "fails", "reason"),
    [(HEARTBEAT_OK, POLL_FAILED, NO_POLL), (POLLED, BEAT_FAILED, NO_BEAT)],
    ids=["polls", "beats"],
)
def test_calls_that_never_succeed_keep_a_worker_from_being_ready(
    succeeds: Event, fails: Event, reason: str
) -> None:
    """The time counts from the start, for example when a policy denies the call."""
    bench = Bench()
    bench.emit(STARTED)
    bench.pass_time(3600, succeeds, fails)
    assert bench.why_not() == [reason]


def test_all_reasons_are_given_together(bench: Bench) -> None:
    """The page shows every reason at once."""
    bench.emit(WorkerDraining(worker_id="me", in_flight=1), *[stuck(thread=True)] * 2)
    bench.pass_time(60)
    assert bench.why_not() == [
        "draining",
        "no thread is free: 2 are used by stuck handlers",
        NO_POLL,
        NO_BEAT,
    ]


def test_a_process_that_is_ending_is_not_alive(bench: Bench) -> None:
    """If ending the process fails, a supervisor sees the reason."""
    assert bench.health.why_not_alive() == []
    bench.emit(ProcessEnding(reason="the event loop has been blocked for 300 s", stacks=""))
    assert bench.health.why_not_alive() == ["the event loop has been blocked for 300 s"]


def outage(bench: Bench) -> None:
    bench.pass_time(86400, LOOP_RAN, POLL_FAILED, BEAT_FAILED)


def long_outage(bench: Bench) -> None:
    bench.pass_time(86400, LOOP_RAN, POLL_SKIPPED, BEAT_FAILED)


def blocked_loop(bench: Bench) -> None:
    bench.emit(LOOP_RAN, LoopBlocked(seconds=1, stack=""))
    bench.pass_time(310, HEARTBEAT_OK)


def fence(bench: Bench) -> None:
    bench.emit(LOOP_RAN, WorkerFenced(worker_id="me", reason="its row was removed", in_flight=1))
    bench.pass_time(86400)


def full_slots(bench: Bench) -> None:
    bench.slots.take("r1")
    slot = bench.slots.take("r2")
    bench.pass_time(86400, LOOP_RAN, HEARTBEAT_OK)
    bench.slots.release(slot)


def drain(bench: Bench) -> None:
    bench.emit(WorkerDraining(worker_id="me", in_flight=1))
    bench.pass_time(86400, LOOP_RAN, HEARTBEAT_OK)


@pytest.mark.parametrize("happens", [outage, long_outage, blocked_loop, fence, full_slots, drain])
def test_a_worker_that_a_restart_would_not_help_is_alive(
    happens: Callable[[Bench], None], bench: Bench
) -> None:
    """An outage of DynamoDB must not make supervisors kill the fleet."""
    happens(bench)
    assert bench.health.why_not_alive() == []


@pytest.mark.parametrize(
    ("still_running", "seconds", "reason"),
    [
        ((POLLED, HEARTBEAT_OK), 310, "the event loop has been blocked for 310 s"),
        ((LOOP_RAN, POLLED), 310, "no heartbeat has ended for 310 s"),
        ((LOOP_RAN, HEARTBEAT_OK), 910, "no poll has ended for 910 s"),
    ],
    ids=["loop", "heartbeat", "poll"],
)
def test_a_worker_that_is_blocked_for_long_is_not_alive(
    still_running: tuple[Event, ...], seconds: int, reason: str, bench: Bench
) -> None:
    """A restart helps when nothing else has ended the process."""
    bench.emit(LOOP_RAN)
    bench.pass_time(seconds, *still_running)
    assert bench.health.why_not_alive() == []
    bench.pass_time(1, *still_running)
    assert bench.health.why_not_alive() == [reason]


def test_skipped_polls_do_not_make_a_worker_ready(bench: Bench) -> None:
    """A skipped poll makes no call to the table."""
    bench.pass_time(31, POLL_SKIPPED, HEARTBEAT_OK)
    assert bench.why_not() == [NO_POLL]
