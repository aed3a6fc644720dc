"""Events as Prometheus metrics: names, labels, and the metrics of the worker itself."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from typing import get_args

import pytest
from prometheus_client import generate_latest

from streamer_store import CacheUsed, CallEnded, Capacity, TableNames, TryFailed
from streamer_worker.events import (
    Event,
    FleetObserved,
    HeartbeatTried,
    ItemUndecodable,
    LoopBlocked,
    LoopLagMeasured,
    PauseEnded,
    PauseStarted,
    Polled,
    ScheduleTicked,
    ScheduleTicksMissed,
    SlotsChanged,
    StepFailed,
    WorkerFenced,
)
from streamer_worker.monitoring.metrics import Metrics
from support import ManualClock
from unit.worker.exposed import AWAY, EVERY_EVENT, NOW, REPORT, reaped
from unit.worker.monitoring.metric_values import metrics, value

__all__ = ["metrics"]

LABELS: dict[str, set[str]] = {
    "requests_finished_total": {"action", "outcome"},
    "request_duration_seconds": {"action", "outcome"},
    "request_wait_seconds": {"action"},
    "request_attempts": {"action"},
    "retries_total": {"action", "reason"},
    "claims_total": {"outcome"},
    "rate_limit_permits_total": {"action", "scope", "result"},
    "rate_limit_saturated_seconds_total": {"action", "scope"},
    "slots": {"state"},
    "polls_total": {"outcome"},
    "poll_duration_seconds": set(),
    "last_poll_success_timestamp_seconds": set(),
    "queue_depth": {"status"},
    "queue_later": {"status"},
    "unhandled_requests": {"action"},
    "paused": {"kind", "name"},
    "queue_oldest_age_seconds": {"status"},
    "heartbeats_total": {"outcome"},
    "workers": {"state"},
    "leader": set(),
    "draining": set(),
    "rescued_total": {"action"},
    "fences_total": set(),
    "schedule_ticks_total": {"schedule"},
    "schedule_missed_ticks_total": {"schedule", "reason"},
    "schedule_tick_lateness_seconds": set(),
    "schedule_last_tick_timestamp_seconds": {"schedule"},
    "schedule_last_miss_timestamp_seconds": {"schedule"},
    "fenced_writes_total": {"operation"},
    "superseded_writes_total": {"operation"},
    "progress_writes_total": {"result"},
    "pushes_total": {"type", "outcome"},
    "reaper_connections_total": {"result"},
    "reaper_last_success_timestamp_seconds": set(),
    "undecodable_items_total": {"table"},
    "dynamodb_request_duration_seconds": {"operation"},
    "dynamodb_errors_total": {"operation", "code"},
    "dynamodb_throttles_total": {"operation"},
    "cache_reads_total": {"table", "result"},
    "cache_evictions_total": {"table"},
    "cache_age_seconds": {"table"},
    "dynamodb_consumed_capacity_units_total": {"table", "index", "operation"},
    "event_loop_lag_seconds": set(),
    "loop_blocked_total": set(),
    "loop_failures_total": {"loop"},
    "stuck_handlers": {"kind"},
    "build_info": {"version", "python"},
    "handler_info": {"action", "kind", "distribution", "version"},
}


def test_slots_are_shown_by_state(metrics: Metrics) -> None:
    """The last event sets the used and the free slots."""
    metrics(SlotsChanged(used=3, total=10))
    metrics(SlotsChanged(used=1, total=10))
    assert value(metrics, "slots", state="used") == 1
    assert value(metrics, "slots", state="free") == 9


@pytest.mark.parametrize("outcome", ["claimed", "empty"])
def test_polls_are_counted_by_outcome(metrics: Metrics, outcome: str) -> None:
    """Each poll counts once."""
    metrics(Polled(outcome=outcome, seconds=0.1, candidates=3, claimed=2))
    assert value(metrics, "polls_total", outcome=outcome) == 1


def test_reaped_connections_are_counted_by_result(metrics: Metrics) -> None:
    """Deleted, kept and undecodable connections are counted apart."""
    metrics(reaped())
    metrics(reaped())
    results = ("deleted", "kept", "undecodable", "dry_run")
    counts = [value(metrics, "reaper_connections_total", result=result) for result in results]
    assert counts == [8, 4, 2, 0]


def test_a_dry_run_counts_under_its_own_label(metrics: Metrics) -> None:
    """Nothing was deleted, so `deleted` does not change."""
    metrics(reaped(dry_run=True))
    assert value(metrics, "reaper_connections_total", result="dry_run") == 7
    assert value(metrics, "reaper_connections_total", result="deleted") == 0


def test_failed_steps_are_counted_by_loop(metrics: Metrics) -> None:
    """A failed poll also counts as a poll with the outcome `error`."""
    metrics(StepFailed(loop="poll", error=AWAY))
    metrics(StepFailed(loop="reap", error=AWAY))
    assert value(metrics, "loop_failures_total", loop="poll") == 1
    assert value(metrics, "loop_failures_total", loop="reap") == 1
    assert value(metrics, "polls_total", outcome="error") == 1


def test_undecodable_items_are_counted_by_table(metrics: Metrics) -> None:
    """The label is the name of the table without its prefix."""
    metrics(ItemUndecodable(table="requests", key="r", reason="x"))
    metrics(ItemUndecodable(table="streamer_requests", key="r", reason="x"))
    assert value(metrics, "undecodable_items_total", table="requests") == 2
    assert value(metrics, "undecodable_items_total", table="connections") == 0


def test_undecodable_items_of_a_table_with_its_own_name_are_counted() -> None:
    """The label is the name in the schema, as alerts and dashboards have it."""
    tables = TableNames.from_prefix("p_", {"requests": "jobs", "workers": "old_requests"})
    metrics = Metrics({}, clock=ManualClock(), tables=tables)
    for name in ("jobs", "old_requests", "p_connections", "elsewhere"):
        metrics(ItemUndecodable(table=name, key="r", reason="x"))
    labels = ("requests", "workers", "connections", "other", "subscriptions")
    counts = [value(metrics, "undecodable_items_total", table=label) for label in labels]
    assert counts == [1, 1, 1, 1, 0]


@pytest.mark.parametrize("outcome", ["ok", "failed", "gone"])
def test_heartbeats_are_counted_by_outcome(metrics: Metrics, outcome: str) -> None:
    """Each heartbeat counts once."""
    metrics(HeartbeatTried(outcome=outcome, seconds=0.1))
    assert value(metrics, "heartbeats_total", outcome=outcome) == 1


def test_the_last_observation_of_the_fleet_is_shown(metrics: Metrics) -> None:
    """It has the live and the dead workers, and whether this one leads."""
    metrics(FleetObserved(live=3, dead=2, leads=True))
    assert value(metrics, "leader") == 1
    metrics(FleetObserved(live=2, dead=1, leads=False))
    assert value(metrics, "leader") == 0
    states = [value(metrics, "workers", state=state) for state in ("live", "dead")]
    assert states == [2, 1]


def test_fences_and_blocked_loops_are_counted(metrics: Metrics) -> None:
    """Each event counts once."""
    metrics(WorkerFenced(worker_id="w", reason="x", in_flight=0))
    metrics(LoopBlocked(seconds=1, stack=""))
    assert value(metrics, "fences_total") == 1
    assert value(metrics, "loop_blocked_total") == 1


def test_names_and_labels_are_as_documented_and_hold_no_ids(metrics: Metrics) -> None:
    """After every kind of event, no label names a request or a worker."""
    assert {type(event) for event in EVERY_EVENT} == set(get_args(Event))
    for event in EVERY_EVENT:
        metrics(event)
    labels = {}
    samples = (sample for family in metrics.registry.collect() for sample in family.samples)
    for sample in samples:
        name = sample.name.removeprefix("streamer_worker_")
        if name != sample.name:
            for part in ("_bucket", "_count", "_sum"):
                name = name.removesuffix(part)
            labels[name] = set(sample.labels) - {"le"}
    assert labels == LABELS
    page = generate_latest(metrics.registry).decode()
    assert "r-1" not in page
    assert "w-1" not in page
    assert "made-up" not in page


def test_times_of_success_begin_with_the_worker() -> None:
    """Otherwise an alert on their age would fire at every start, or never."""
    clock = ManualClock()
    metrics = Metrics({}, clock=clock)
    names = ("last_poll_success_timestamp_seconds", "reaper_last_success_timestamp_seconds")
    metrics(EVERY_EVENT[0])
    assert [value(metrics, name) for name in names] == [NOW, NOW]
    clock.advance(10)
    metrics(Polled(outcome="empty", seconds=0.1, candidates=0, claimed=0))
    assert [value(metrics, name) for name in names] == [NOW + 10, NOW]
    clock.advance(10)
    metrics(reaped())
    metrics(EVERY_EVENT[0])  # another incarnation
    assert [value(metrics, name) for name in names] == [NOW + 10, NOW + 20]


def test_ticks_of_schedules_are_counted() -> None:
    """The series of the worker's own schedules are there from the start."""
    clock = ManualClock()
    metrics = Metrics({}, clock=clock, schedules=["nightly"])
    assert value(metrics, "schedule_ticks_total", schedule="nightly") == 0
    late = {"schedule": "nightly", "reason": "late"}
    assert value(metrics, "schedule_missed_ticks_total", **late) == 0
    ticked = {"schedule": "nightly", "action": "report", "request_id": "r-1"}
    metrics(ScheduleTicked(**ticked, late=0.4))
    metrics(ScheduleTicked(**ticked, late=None))
    metrics(ScheduleTicksMissed(schedule="nightly", count=3, paused=False))
    clock.advance(10)
    metrics(ScheduleTicksMissed(schedule="nightly", count=5, paused=True))
    assert value(metrics, "schedule_last_miss_timestamp_seconds", schedule="nightly") == NOW
    assert value(metrics, "schedule_ticks_total", schedule="nightly") == 2
    assert value(metrics, "schedule_tick_lateness_seconds_sum") == 0.4
    assert value(metrics, "schedule_last_tick_timestamp_seconds", schedule="nightly") == NOW
    assert value(metrics, "schedule_missed_ticks_total", **late) == 3
    paused = {"schedule": "nightly", "reason": "paused"}
    assert value(metrics, "schedule_missed_ticks_total", **paused) == 5


def test_calls_to_the_table_are_measured(metrics: Metrics) -> None:
    """Duration is by operation, units are by table and index, errors are by code."""
    metrics(
        CallEnded(
            operation="Query",
            seconds=0.03,
            capacity=(Capacity("streamer_requests", "StatusIndex", 0.5),),
        )
    )
    metrics(TryFailed(operation="Query", code="ThrottlingException", throttled=True))
    metrics(TryFailed(operation="Query", code="InternalServerError", throttled=False))
    where = {"table": "streamer_requests", "index": "StatusIndex", "operation": "Query"}
    assert value(metrics, "dynamodb_consumed_capacity_units_total", **where) == 0.5
    name = "dynamodb_request_duration_seconds_bucket"
    assert value(metrics, name, operation="Query", le="0.025") == 0
    assert value(metrics, name, operation="Query", le="0.05") == 1
    assert value(metrics, "dynamodb_throttles_total", operation="Query") == 1
    code = {"operation": "Query", "code": "InternalServerError"}
    assert value(metrics, "dynamodb_errors_total", **code) == 1


def test_the_use_of_the_cache_is_counted(metrics: Metrics) -> None:
    """Of calls without a hit there is no age."""
    metrics(CacheUsed(table="t", hits=0, misses=3, evictions=2, age=0))
    metrics(CacheUsed(table="t", hits=2, misses=1, evictions=0, age=0.4))
    assert value(metrics, "cache_reads_total", table="t", result="hit") == 2
    assert value(metrics, "cache_reads_total", table="t", result="miss") == 4
    assert value(metrics, "cache_evictions_total", table="t") == 2
    assert value(metrics, "cache_age_seconds_count", table="t") == 1
    assert value(metrics, "cache_age_seconds_bucket", table="t", le="0.25") == 0
    assert value(metrics, "cache_age_seconds_bucket", table="t", le="0.5") == 1


def test_installed_versions_are_shown(metrics: Metrics) -> None:
    """There is the worker's version, and the version of each handler's package."""
    here = version("streamer-worker")
    info = {"action": "report", "kind": "task", "distribution": "streamer-worker", "version": here}
    assert value(metrics, "handler_info", **info) == 1
    nobody = {"action": "bulk", "kind": "thread", "distribution": "", "version": "unknown"}
    assert value(metrics, "handler_info", **nobody) == 1
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    builds = [sample.labels for sample in samples if sample.name == "streamer_worker_build_info"]
    assert [build["version"] for build in builds] == [here]


def test_a_handlers_package_is_shown_as_the_registry_has_it() -> None:
    """ "name version" of an entry point is split into two labels."""
    loaded = replace(REPORT, distribution="reports 1.2.0")
    metrics = Metrics({"report": loaded}, clock=ManualClock(), reaps=False)
    info = {"action": "report", "kind": "task", "distribution": "reports", "version": "1.2.0"}
    assert value(metrics, "handler_info", **info) == 1


def test_known_series_exist_from_the_start(metrics: Metrics) -> None:
    """A rate would miss their first increment."""
    assert value(metrics, "requests_finished_total", action="bulk", outcome="failed") == 0
    assert value(metrics, "requests_finished_total", action="other", outcome="failed") == 0
    assert value(metrics, "fenced_writes_total", operation="progress") == 0


def test_the_loops_lag_is_observed(metrics: Metrics) -> None:
    """Each timer of the loop is one observation."""
    metrics(LoopLagMeasured(lag=0.2))
    assert value(metrics, "event_loop_lag_seconds_sum") == pytest.approx(0.2)
    assert value(metrics, "event_loop_lag_seconds_count") == 1


def test_two_workers_in_one_process_count_apart() -> None:
    """No metric is registered globally."""
    first, second = Metrics({}, clock=ManualClock()), Metrics({}, clock=ManualClock())
    first(SlotsChanged(used=1, total=1))
    assert value(second, "slots", state="used") is None


def test_a_worker_that_does_not_reap_has_no_time_of_the_last_sweep() -> None:
    """An alert on its age would fire for ever."""
    metrics = Metrics({}, clock=ManualClock(), reaps=False)
    metrics(EVERY_EVENT[0])
    metrics(reaped())
    assert value(metrics, "reaper_last_success_timestamp_seconds") is None


def _pause_event(kind: str, name: str, in_force: int = 1) -> PauseStarted:
    return PauseStarted(
        kind=kind, name=name, by="ann@desk", until=None, reason="", in_force=in_force
    )


def test_pauses_are_shown_while_they_are_in_force(metrics: Metrics) -> None:
    """By kind and name. The series of one that has ended is gone."""
    metrics(_pause_event("action", "report"))
    metrics(_pause_event("fuse", "report"))
    assert value(metrics, "paused", kind="action", name="report") == 1
    metrics(PauseEnded(kind="action", name="report", in_force=0))
    metrics(PauseEnded(kind="action", name="report", in_force=0))
    assert value(metrics, "paused", kind="action", name="report") is None
    assert value(metrics, "paused", kind="fuse", name="report") == 1


def test_paused_tenants_are_counted_and_not_named(metrics: Metrics) -> None:
    """No label holds the name of a tenant."""
    metrics(_pause_event("tenant", "acme", 1))
    metrics(_pause_event("tenant", "bolt", 2))
    assert value(metrics, "paused", kind="tenant", name="") == 2
    metrics(PauseEnded(kind="tenant", name="acme", in_force=1))
    assert value(metrics, "paused", kind="tenant", name="") == 1
    assert value(metrics, "paused", kind="tenant", name="acme") is None
