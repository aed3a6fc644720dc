"""Whether a worker lives, and whether it is ready, as its events tell."""

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
    WorkerStarted,
)
from streamer_worker.intake.slots import Slots
from streamer_worker.monitoring.health import Health
from streamer_worker.settings import HandlerSettings, PollSettings, PresenceSettings, Settings
from support import ManualClock

AWAY = StoreUnavailable("the table is away")
STARTED = WorkerStarted(worker_id="me", actions=("echo",), concurrency=2, metrics_url=None)
POLLED = Polled(outcome="empty", seconds=0.1, candidates=0, claimed=0)
BEATEN = HeartbeatTried(outcome="ok", seconds=0.1)
BEAT_FAILED = HeartbeatTried(outcome="failed", seconds=0.1, error=AWAY)
POLL_SKIPPED = Polled(outcome="skipped", seconds=0, candidates=0, claimed=0)
TURNED = LoopLagMeasured(lag=0.01)
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

    def tell(self, *events: Event) -> None:
        for each in events:
            self.health(each)

    def pass_time(self, seconds: float, *each_second: Event) -> None:
        """Let time pass, with the events of each second."""
        for _ in range(round(seconds)):
            self.time.advance(1)
            self.tell(*each_second)

    def why_not(self) -> list[str]:
        return self.health.why_not_ready()


@pytest.fixture
def bench() -> Bench:
    """Give a worker that has started, polled and beaten."""
    made = Bench()
    made.tell(STARTED, POLLED, BEATEN)
    return made


def stuck(*, thread: bool) -> HandlerStuck:
    return HandlerStuck(request_id="r", action="echo", reason="timeout", thread=thread)


def stuck_ended(*, thread: bool) -> StuckHandlerEnded:
    return StuckHandlerEnded(request_id="r", action="echo", thread=thread)


def test_a_worker_is_ready_once_it_has_started() -> None:
    """Not while it waits for its tables or its row."""
    bench = Bench()
    assert bench.why_not() == ["not started yet"]
    bench.tell(STARTED)
    assert bench.why_not() == []


def test_a_worker_that_has_not_started_owes_no_polls() -> None:
    """Only one reason is given."""
    bench = Bench()
    bench.tell(BEATEN)
    bench.pass_time(3600)
    assert bench.why_not() == ["not started yet"]


def test_a_worker_that_works_stays_ready(bench: Bench) -> None:
    """For as long as it polls and beats."""
    bench.pass_time(3600, POLLED, BEATEN)
    assert bench.why_not() == []


def test_a_worker_that_drains_is_not_ready(bench: Bench) -> None:
    """It takes nothing any more, though it runs."""
    bench.tell(WorkerDraining(worker_id="me", in_flight=1))
    assert bench.why_not() == ["draining"]
    assert bench.health.why_not_alive() == []


def test_a_worker_whose_slots_are_all_held_is_not_ready() -> None:
    """It may have more threads than slots."""
    bench = Bench(concurrency=1)
    bench.tell(STARTED, stuck(thread=True))
    assert bench.why_not() == ["no thread is free: 1 are held by handlers that do not end"]


def test_a_worker_without_threads_is_not_ready_until_one_ends(bench: Bench) -> None:
    """All of them held by handlers that do not end."""
    bench.tell(stuck(thread=True))
    assert bench.why_not() == []
    bench.tell(stuck(thread=True))
    assert bench.why_not() == ["no thread is free: 2 are held by handlers that do not end"]
    assert bench.health.why_not_alive() == []
    bench.tell(stuck_ended(thread=True))
    assert bench.why_not() == []


def test_handlers_that_hold_no_thread_do_not_count(bench: Bench) -> None:
    """Neither when they are stuck nor when they end."""
    bench.tell(*[stuck(thread=False)] * 9)
    assert bench.why_not() == []
    bench.tell(*[stuck_ended(thread=False)] * 9, *[stuck(thread=True)] * 2)
    assert len(bench.why_not()) == 1


def test_a_worker_whose_polls_fail_is_not_ready_until_one_succeeds(bench: Bench) -> None:
    """After half a minute: one failure is no reason."""
    bench.pass_time(30, POLL_FAILED, BEATEN)
    assert bench.why_not() == []
    bench.pass_time(1, POLL_FAILED, BEATEN)
    assert bench.why_not() == [NO_POLL]
    bench.tell(POLLED)
    assert bench.why_not() == []


def test_a_worker_that_is_to_poll_seldom_is_given_time() -> None:
    """Three of its longest pauses."""
    bench = Bench(max_interval=60)
    bench.tell(STARTED, POLLED)
    bench.pass_time(180, BEATEN)
    assert bench.why_not() == []
    bench.pass_time(1, BEATEN)
    assert bench.why_not() == ["no poll succeeded for 180 s"]


def test_a_worker_whose_slots_are_full_need_not_poll(bench: Bench) -> None:
    """From the moment when one is free it is given half a minute again."""
    taken = [bench.slots.take("r1"), bench.slots.take("r2")]
    bench.pass_time(3600, BEATEN)
    assert bench.why_not() == []
    bench.slots.release(taken[0])
    bench.pass_time(30, BEATEN)
    assert bench.why_not() == []
    bench.pass_time(1, BEATEN)
    assert bench.why_not() == [NO_POLL]


def test_a_slot_that_a_stuck_thread_kept_may_be_given_back_late(bench: Bench) -> None:
    """Its request was settled long before; nobody could poll meanwhile."""
    bench.slots.take("r1")
    kept = bench.slots.take("r2")
    bench.slots.settle(kept)
    bench.pass_time(3600, BEATEN)
    bench.slots.release(kept)
    assert bench.why_not() == []


def test_a_worker_whose_heart_fails_is_not_ready_until_it_beats(bench: Bench) -> None:
    """After a lease."""
    bench.pass_time(16, POLLED, BEAT_FAILED)
    assert bench.why_not() == []
    bench.pass_time(1, POLLED, BEAT_FAILED)
    assert bench.why_not() == [NO_BEAT]
    bench.tell(BEATEN)
    assert bench.why_not() == []


@pytest.mark.parametrize(
    ("succeeds", "fails", "reason"),
    [(BEATEN, POLL_FAILED, NO_POLL), (POLLED, BEAT_FAILED, NO_BEAT)],
    ids=["polls", "beats"],
)
def test_what_never_succeeded_keeps_a_worker_from_being_ready(
    succeeds: Event, fails: Event, reason: str
) -> None:
    """As when its policy does not allow the call: the time counts from the start."""
    bench = Bench()
    bench.tell(STARTED)
    bench.pass_time(3600, succeeds, fails)
    assert bench.why_not() == [reason]


def test_all_reasons_are_given_together(bench: Bench) -> None:
    """An operator sees at once all that is wrong."""
    bench.tell(WorkerDraining(worker_id="me", in_flight=1), *[stuck(thread=True)] * 2)
    bench.pass_time(60)
    assert bench.why_not() == [
        "draining",
        "no thread is free: 2 are held by handlers that do not end",
        NO_POLL,
        NO_BEAT,
    ]


def test_a_process_that_is_ending_is_not_alive(bench: Bench) -> None:
    """Should its end fail, too, a supervisor sees why."""
    assert bench.health.why_not_alive() == []
    bench.tell(ProcessEnding(reason="the event loop has not turned for 300 s", stacks=""))
    assert bench.health.why_not_alive() == ["the event loop has not turned for 300 s"]


def outage(bench: Bench) -> None:
    bench.pass_time(86400, TURNED, POLL_FAILED, BEAT_FAILED)


def long_outage(bench: Bench) -> None:
    bench.pass_time(86400, TURNED, POLL_SKIPPED, BEAT_FAILED)


def blocked_loop(bench: Bench) -> None:
    bench.tell(TURNED, LoopBlocked(seconds=1, stack=""))
    bench.pass_time(310, BEATEN)


def fence(bench: Bench) -> None:
    bench.tell(TURNED, WorkerFenced(worker_id="me", reason="its row was removed", in_flight=1))
    bench.pass_time(86400)


def full_slots(bench: Bench) -> None:
    bench.slots.take("r1")
    slot = bench.slots.take("r2")
    bench.pass_time(86400, TURNED, BEATEN)
    bench.slots.release(slot)


def drain(bench: Bench) -> None:
    bench.tell(WorkerDraining(worker_id="me", in_flight=1))
    bench.pass_time(86400, TURNED, BEATEN)


@pytest.mark.parametrize("happens", [outage, long_outage, blocked_loop, fence, full_slots, drain])
def test_what_a_restart_does_not_mend_leaves_it_alive(
    happens: Callable[[Bench], None], bench: Bench
) -> None:
    """An outage of DynamoDB must not make supervisors kill the fleet."""
    happens(bench)
    assert bench.health.why_not_alive() == []


@pytest.mark.parametrize(
    ("turning", "seconds", "reason"),
    [
        ((POLLED, BEATEN), 310, "the event loop has not turned for 310 s"),
        ((TURNED, POLLED), 310, "no heartbeat has come to an end for 310 s"),
        ((TURNED, BEATEN), 910, "no poll has come to an end for 910 s"),
    ],
    ids=["loop", "heartbeat", "poll"],
)
def test_what_stands_for_long_is_not_alive(
    turning: tuple[Event, ...], seconds: int, reason: str, bench: Bench
) -> None:
    """Once nothing else has ended it: a restart mends that."""
    bench.tell(TURNED)
    bench.pass_time(seconds, *turning)
    assert bench.health.why_not_alive() == []
    bench.pass_time(1, *turning)
    assert bench.health.why_not_alive() == [reason]


def test_skipped_polls_do_not_make_it_ready(bench: Bench) -> None:
    """Nothing was asked of the table."""
    bench.pass_time(31, POLL_SKIPPED, BEATEN)
    assert bench.why_not() == [NO_POLL]
