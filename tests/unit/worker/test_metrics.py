"""Events as Prometheus metrics."""

from __future__ import annotations

import pytest
from prometheus_client import generate_latest

from streamer_store import StoreUnavailable
from streamer_worker.events import (
    ActionUnknown,
    ClaimTried,
    ClockJumped,
    ConnectionsReaped,
    Event,
    FleetLooked,
    HandlerRaised,
    HandlerStuck,
    HeartbeatTried,
    ItemUndecodable,
    LoopBlocked,
    Polled,
    ProcessEnding,
    ProgressDropped,
    RequestFinished,
    RequestRescued,
    RequestStarted,
    SettleDelayed,
    SlotsChanged,
    StepFailed,
    StuckHandlerEnded,
    TableDiffers,
    WorkerBuried,
    WorkerDraining,
    WorkerFenced,
    WorkerStarted,
    WorkerStopped,
)
from streamer_worker.metrics import Metrics

AWAY = StoreUnavailable("away")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(actions={"report", "bulk"})


def finished(action: str = "report", outcome: str = "completed", seconds: float = 0.3) -> Event:
    return RequestFinished(
        request_id="r-1", action=action, attempt=1, outcome=outcome, code=None, seconds=seconds
    )


def rescued(action: str | None = "report") -> Event:
    return RequestRescued(request_id="r-1", action=action, worker_id="w-2", status="RETRYING")


def stuck(*, thread: bool) -> Event:
    return HandlerStuck(request_id="r-1", action="report", reason="timeout", thread=thread)


def reaped(*, dry_run: bool = False) -> Event:
    return ConnectionsReaped(
        found=7, deleted=0 if dry_run else 4, kept=2, undecodable=1, dry_run=dry_run, seconds=1
    )


EVERY_EVENT: list[Event] = [
    WorkerStarted(worker_id="w-1", actions=("report",), concurrency=2, metrics_url=None),
    WorkerDraining(worker_id="w-1", in_flight=1),
    WorkerStopped(worker_id="w-1"),
    WorkerFenced(worker_id="w-1", reason="x", in_flight=1),
    WorkerBuried(worker_id="w-2"),
    HeartbeatTried(outcome="beaten", seconds=0.1),
    FleetLooked(live=2, dead=1, leads=True),
    LoopBlocked(seconds=1.2, stack="x"),
    ProcessEnding(reason="x", stacks="x"),
    rescued(),
    TableDiffers(table="requests", text="x"),
    Polled(outcome="claimed", seconds=0.1, candidates=3, claimed=2),
    ClaimTried(request_id="r-1", outcome="won"),
    RequestStarted(request_id="r-1", action="report", attempt=1),
    HandlerRaised(request_id="r-1", action="report", error=ValueError("x")),
    stuck(thread=True),
    StuckHandlerEnded(request_id="r-1", action="report", thread=True),
    ActionUnknown(action="made-up"),
    ClockJumped(seconds=90.0),
    finished(),
    SlotsChanged(used=3, total=10),
    SettleDelayed(request_id="r-1", error=AWAY),
    ProgressDropped(request_id="r-1", error=AWAY),
    reaped(),
    ItemUndecodable(table="requests", key="r-1", reason="x"),
    StepFailed(loop="poll", error=AWAY),
]
LABELS = {
    "streamer_worker_requests_finished_total": {"action", "outcome"},
    "streamer_worker_request_duration_seconds_count": {"action", "outcome"},
    "streamer_worker_request_duration_seconds_sum": {"action", "outcome"},
    "streamer_worker_request_duration_seconds_bucket": {"action", "outcome", "le"},
    "streamer_worker_slots": {"state"},
    "streamer_worker_polls_total": {"outcome"},
    "streamer_worker_claims_total": {"outcome"},
    "streamer_worker_reaper_connections_total": {"result"},
    "streamer_worker_loop_failures_total": {"loop"},
    "streamer_worker_undecodable_items_total": {"table"},
    "streamer_worker_heartbeats_total": {"outcome"},
    "streamer_worker_rescued_total": {"action"},
    "streamer_worker_workers": {"state"},
    "streamer_worker_leader": set(),
    "streamer_worker_fences_total": set(),
    "streamer_worker_loop_blocked_total": set(),
    "streamer_worker_stuck_handlers": {"kind"},
}


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"streamer_worker_{name}", labels)


@pytest.mark.parametrize("outcome", ["completed", "failed", "released", "cancelled"])
def test_requests_are_counted_by_action_and_outcome(metrics: Metrics, outcome: str) -> None:
    """Each pair has a counter and a duration histogram of its own."""
    metrics(finished(outcome=outcome))
    metrics(finished(outcome=outcome, seconds=40))
    metrics(finished(action="bulk", outcome=outcome))
    labels = {"action": "report", "outcome": outcome}
    assert value(metrics, "requests_finished_total", **labels) == 2
    assert value(metrics, "request_duration_seconds_count", **labels) == 2
    assert value(metrics, "request_duration_seconds_sum", **labels) == pytest.approx(40.3)
    assert value(metrics, "request_duration_seconds_bucket", le="0.5", **labels) == 1
    assert value(metrics, "requests_finished_total", action="bulk", outcome=outcome) == 1


def test_unknown_actions_count_as_other(metrics: Metrics) -> None:
    """Producers cannot make series without end."""
    for number in range(1000):
        metrics(finished(action=f"made-up-{number}", outcome="failed"))
    assert value(metrics, "requests_finished_total", action="other", outcome="failed") == 1000
    assert "made-up" not in generate_latest(metrics.registry).decode()


def test_slots_are_shown_by_state(metrics: Metrics) -> None:
    """Used and free; the last event counts."""
    metrics(SlotsChanged(used=3, total=10))
    metrics(SlotsChanged(used=1, total=10))
    assert value(metrics, "slots", state="used") == 1
    assert value(metrics, "slots", state="free") == 9


@pytest.mark.parametrize("outcome", ["claimed", "empty"])
def test_polls_are_counted_by_outcome(metrics: Metrics, outcome: str) -> None:
    """One for each look."""
    metrics(Polled(outcome=outcome, seconds=0.1, candidates=3, claimed=2))
    assert value(metrics, "polls_total", outcome=outcome) == 1


@pytest.mark.parametrize("outcome", ["won", "lost", "error"])
def test_claims_are_counted_by_outcome(metrics: Metrics, outcome: str) -> None:
    """Lost ones show workers that fight, errors a table in trouble."""
    metrics(ClaimTried(request_id="r", outcome=outcome))
    assert value(metrics, "claims_total", outcome=outcome) == 1


def test_reaped_connections_are_counted_by_result(metrics: Metrics) -> None:
    """What went, what pinged meanwhile, what could not be read."""
    metrics(reaped())
    metrics(reaped())
    results = ("deleted", "kept", "undecodable", "dry_run")
    counts = [value(metrics, "reaper_connections_total", result=result) for result in results]
    assert counts == [8, 4, 2, 0]


def test_a_dry_run_counts_what_would_go(metrics: Metrics) -> None:
    """Under a label of its own: nothing went."""
    metrics(reaped(dry_run=True))
    assert value(metrics, "reaper_connections_total", result="dry_run") == 7
    assert value(metrics, "reaper_connections_total", result="deleted") == 0


def test_failed_rounds_are_counted_by_loop(metrics: Metrics) -> None:
    """A poll that failed is also a poll with the outcome error."""
    metrics(StepFailed(loop="poll", error=AWAY))
    metrics(StepFailed(loop="reap", error=AWAY))
    assert value(metrics, "loop_failures_total", loop="poll") == 1
    assert value(metrics, "loop_failures_total", loop="reap") == 1
    assert value(metrics, "polls_total", outcome="error") == 1


def test_undecodable_items_are_counted_by_table(metrics: Metrics) -> None:
    """So that an alert can be set on them."""
    metrics(ItemUndecodable(table="requests", key="r", reason="x"))
    assert value(metrics, "undecodable_items_total", table="requests") == 1


@pytest.mark.parametrize("outcome", ["beaten", "failed", "gone"])
def test_heartbeats_are_counted_by_outcome(metrics: Metrics, outcome: str) -> None:
    """Failed ones show an outage."""
    metrics(HeartbeatTried(outcome=outcome, seconds=0.1))
    assert value(metrics, "heartbeats_total", outcome=outcome) == 1


def test_the_fleet_is_shown_as_it_was_seen_last(metrics: Metrics) -> None:
    """Live and dead workers, and whether this one leads."""
    metrics(FleetLooked(live=3, dead=2, leads=True))
    assert value(metrics, "leader") == 1
    metrics(FleetLooked(live=2, dead=1, leads=False))
    assert value(metrics, "leader") == 0
    states = [value(metrics, "workers", state=state) for state in ("live", "dead")]
    assert states == [2, 1]


def test_rescued_requests_are_counted_by_action(metrics: Metrics) -> None:
    """One that the index does not name, or nobody registered, counts as `other`."""
    for action in ("report", "made-up", None):
        metrics(rescued(action))
    assert value(metrics, "rescued_total", action="report") == 1
    assert value(metrics, "rescued_total", action="other") == 2


def test_stuck_handlers_are_shown_until_they_end(metrics: Metrics) -> None:
    """Threads apart from tasks: only those keep their slots."""
    metrics(stuck(thread=True))
    metrics(stuck(thread=True))
    metrics(stuck(thread=False))
    metrics(StuckHandlerEnded(request_id="r", action="report", thread=True))
    assert value(metrics, "stuck_handlers", kind="thread") == 1
    assert value(metrics, "stuck_handlers", kind="task") == 1


def test_fences_and_blocked_loops_are_counted(metrics: Metrics) -> None:
    """Both should stay at nothing."""
    metrics(WorkerFenced(worker_id="w", reason="x", in_flight=0))
    metrics(LoopBlocked(seconds=1, stack=""))
    assert value(metrics, "fences_total") == 1
    assert value(metrics, "loop_blocked_total") == 1


def test_names_and_labels_are_as_documented_and_hold_no_ids(metrics: Metrics) -> None:
    """Every event is taken; nothing on the page names a request or a worker."""
    for event in EVERY_EVENT:
        metrics(event)
    found = {
        sample.name: set(sample.labels)
        for family in metrics.registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }
    assert found == LABELS
    page = generate_latest(metrics.registry).decode()
    assert "r-1" not in page
    assert "w-1" not in page


def test_two_workers_in_one_process_count_apart() -> None:
    """Nothing is registered globally."""
    first, second = Metrics(actions=()), Metrics(actions=())
    first(SlotsChanged(used=1, total=1))
    assert value(second, "slots", state="used") is None
