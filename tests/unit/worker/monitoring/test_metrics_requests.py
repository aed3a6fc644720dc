"""Metrics of requests: how they end, wait, are retried and rescued, and the queue."""

from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client import generate_latest

from streamer_worker.events import (
    ClaimTried,
    Event,
    FleetObserved,
    ProgressWritten,
    QueueMeasured,
    StuckHandlerEnded,
    UnhandledMeasured,
    WorkerDraining,
    WorkerFenced,
    WriteFenced,
)
from streamer_worker.monitoring.metrics import Metrics
from unit.worker.exposed import RETRIED, finished, rescued, stuck
from unit.worker.monitoring.metric_values import metrics, value

__all__ = ["metrics"]


@pytest.mark.parametrize("outcome", ["completed", "failed", "released", "cancelled"])
def test_requests_are_counted_by_action_and_outcome(metrics: Metrics, outcome: str) -> None:
    """Each pair has a counter and a duration histogram."""
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
    """Producers cannot create any number of series."""
    for number in range(1000):
        metrics(finished(action=f"made-up-{number}", outcome="failed"))
    assert value(metrics, "requests_finished_total", action="other", outcome="failed") == 1000
    assert "made-up" not in generate_latest(metrics.registry).decode()


@pytest.mark.parametrize("outcome", ["won", "lost", "error"])
def test_claims_are_counted_by_outcome(metrics: Metrics, outcome: str) -> None:
    """Each claim counts once."""
    metrics(ClaimTried(request_id="r", action="report", outcome=outcome))
    assert value(metrics, "claims_total", outcome=outcome) == 1


def test_rescued_requests_are_counted_by_action(metrics: Metrics) -> None:
    """An action that is unknown or not registered counts as `other`."""
    for action in ("report", "made-up", None):
        metrics(rescued(action))
    assert value(metrics, "rescued_total", action="report") == 1
    assert value(metrics, "rescued_total", action="other") == 2


def test_stuck_handlers_are_shown_until_they_end(metrics: Metrics) -> None:
    """Threads and tasks are apart: only threads keep their slots."""
    metrics(stuck(thread=True))
    metrics(stuck(thread=True))
    metrics(stuck(thread=False))
    metrics(StuckHandlerEnded(request_id="r", action="report", thread=True))
    assert value(metrics, "stuck_handlers", kind="thread") == 1
    assert value(metrics, "stuck_handlers", kind="task") == 1


def test_waits_are_observed_where_a_claim_was_won(metrics: Metrics) -> None:
    """A lost claim has no wait."""
    metrics(ClaimTried(request_id="r", action="report", outcome="won", waited=0.7))
    metrics(ClaimTried(request_id="r", action="report", outcome="lost"))
    metrics(ClaimTried(request_id="r", action=None, outcome="won", waited=2))
    assert value(metrics, "request_wait_seconds_count", action="report") == 1
    assert value(metrics, "request_wait_seconds_sum", action="report") == pytest.approx(0.7)
    assert value(metrics, "request_wait_seconds_count", action="other") == 1


@pytest.mark.parametrize("outcome", ["completed", "failed", "cancelled", "timeout"])
def test_attempts_are_observed_at_the_end(metrics: Metrics, outcome: str) -> None:
    """They are not if another attempt follows, or if another worker has the request."""
    again = replace(finished(outcome=outcome), will_retry=True, code="TIMEOUT")
    metrics(again)
    metrics(finished(outcome="claim_lost"))
    metrics(replace(finished(outcome=outcome), attempt=3))
    assert value(metrics, "request_attempts_count", action="report") == 1
    assert value(metrics, "request_attempts_sum", action="report") == 3


def test_retries_are_counted_by_reason(metrics: Metrics) -> None:
    """The reason is an error code, SNOOZED, or WORKER_LOST for a rescued request."""
    metrics(replace(RETRIED, code="PROCESSING_FAILED"))
    metrics(replace(RETRIED, outcome="snoozed"))
    metrics(rescued())
    metrics(replace(rescued(), status="FAILED"))
    reasons = ("PROCESSING_FAILED", "SNOOZED", "WORKER_LOST")
    counts = [value(metrics, "retries_total", action="report", reason=reason) for reason in reasons]
    assert counts == [1, 1, 1]


def test_fenced_and_superseded_writes_are_counted_apart(metrics: Metrics) -> None:
    """Fenced: another worker has the request. Superseded: the outcome of an attempt is lost, also
    because the request was cancelled.
    """
    write = WriteFenced(request_id="r", operation="progress", cancelled=False, settles=False)
    metrics(write)
    metrics(replace(write, cancelled=True))
    metrics(replace(write, operation="complete", settles=True))
    metrics(replace(write, operation="complete", settles=True, cancelled=True))
    assert value(metrics, "fenced_writes_total", operation="progress") == 1
    assert value(metrics, "fenced_writes_total", operation="complete") == 1
    assert value(metrics, "superseded_writes_total", operation="complete") == 2


def test_progress_is_counted_as_written_or_coalesced(metrics: Metrics) -> None:
    """One write may have the newest of many reports."""
    metrics(ProgressWritten(request_id="r", reports=40))
    metrics(ProgressWritten(request_id="r", reports=1))
    metrics(ProgressWritten(request_id="r", reports=0))
    assert value(metrics, "progress_writes_total", result="written") == 3
    assert value(metrics, "progress_writes_total", result="coalesced") == 39


@pytest.mark.parametrize(
    "end",
    [
        FleetObserved(live=2, dead=0, leads=False),
        WorkerFenced(worker_id="w", reason="x", in_flight=0),
        WorkerDraining(worker_id="w", in_flight=0),
    ],
    ids=lambda event: type(event).__name__,
)
def test_the_queue_is_shown_while_the_worker_leads(metrics: Metrics, end: Event) -> None:
    """The last counts of an old leader must not stay beside the new leader's."""
    metrics(FleetObserved(live=2, dead=0, leads=True))
    metrics(QueueMeasured(status="PENDING", count=12, more=False, oldest=4.5))
    metrics(QueueMeasured(status="RETRYING", count=0, more=False, oldest=None))
    metrics(QueueMeasured(status="RETRYING", count=7, more=False, oldest=None, later=True))
    assert value(metrics, "queue_depth", status="RETRYING") == 0
    assert value(metrics, "queue_later", status="RETRYING") == 7
    assert value(metrics, "queue_depth", status="PENDING") == 12
    assert value(metrics, "queue_oldest_age_seconds", status="PENDING") == 4.5
    assert value(metrics, "queue_oldest_age_seconds", status="RETRYING") == 0
    metrics(UnhandledMeasured(counts={"invoice": 7}))
    assert value(metrics, "unhandled_requests", action="invoice") == 7
    metrics(end)
    assert value(metrics, "queue_depth", status="PENDING") is None
    assert value(metrics, "queue_later", status="RETRYING") is None
    assert value(metrics, "unhandled_requests", action="invoice") is None
    assert value(metrics, "queue_oldest_age_seconds", status="RETRYING") is None
    assert value(metrics, "leader") == 0


def test_unhandled_actions_are_eleven_series_at_most(metrics: Metrics) -> None:
    """Ten are named, those with the most requests, the others are `other`. The names are cut and
    escaped, because they come from producers. The series of actions that are handled end.
    """
    counts = {f"a{number}": number for number in range(1, 1000)}
    metrics(UnhandledMeasured(counts=counts | {"x\n" * 500: 5000}))
    (family,) = (
        family
        for family in metrics.registry.collect()
        if family.name == "streamer_worker_unhandled_requests"
    )
    shown = {sample.labels["action"]: sample.value for sample in family.samples}
    assert len(shown) == 11
    assert shown["a999"] == 999
    assert shown["other"] == sum(counts.values()) - sum(range(991, 1000))
    (odd,) = (name for name in shown if name.startswith("x"))
    assert (len(odd), "\n" in odd) == (100, False)
    metrics(UnhandledMeasured(counts={"a1": 1}))
    assert value(metrics, "unhandled_requests", action="a999") is None
    assert value(metrics, "unhandled_requests", action="a1") == 1
