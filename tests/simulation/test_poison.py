"""Requests that crash their workers, in virtual time: they fail, and other requests do not."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from itertools import chain, pairwise
from typing import Any

import pytest

from simulation.runner import handler_runs, outcomes, seeds
from simulation.schedule import Job, Kind, Schedule, Trouble
from streamer_store import AsyncRequest, RequestStatus, writes
from streamer_store.rescues import Rescued
from streamer_worker.error_codes import WORKER_LOST
from streamer_worker.intake.probation import Probation

COMPLETED, FAILED = RequestStatus.COMPLETED, RequestStatus.FAILED
INNOCENT = Job(seconds=4)
POISON = Job(seconds=4, kills=2.0)
STARVING = Job(seconds=4, starves=20.0)
SEEDS = seeds(50)


def trial(seed: int, poison: Job, poisons: int) -> Schedule:
    """Return a schedule of two supervised workers and 60 requests of 4 s, with some poisons."""
    step = 60 // (poisons + 1)
    jobs = [INNOCENT] * 60
    for number in range(poisons):
        jobs.insert(step * (number + 1), poison)
    return Schedule(seed=seed, workers=2, jobs=tuple(jobs), concurrency=32, trouble_for=0)


def split(schedule: Schedule, requests: list[AsyncRequest]) -> tuple[list[Any], list[Any]]:
    """Return the guilty requests and the innocent ones."""
    pairs = list(zip(schedule.jobs, requests, strict=True))
    guilty = [request for job, request in pairs if job is not INNOCENT]
    return guilty, [request for job, request in pairs if job is INNOCENT]


def duration(request: AsyncRequest) -> float:
    """Return the seconds from the creation of a request to its end."""
    assert isinstance(request.created_at, datetime)
    assert isinstance(request.processing_ended, datetime)
    return (request.processing_ended - request.created_at).total_seconds()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("poison", "poisons"), [(POISON, 1), (POISON, 3), (STARVING, 1)], ids=["1", "3", "starving"]
)
def test_no_innocent_fails_beside_a_poison(poison: Job, poisons: int, seed: int) -> None:
    """All 60 are COMPLETED without using an attempt, and the poison fails within 10 minutes.

    Proves RESCUE-4.
    """
    schedule = trial(seed, poison, poisons)
    violations, requests = outcomes(schedule)
    assert violations == []
    guilty, innocent = split(schedule, requests)
    assert {(request.status, request.retry_count) for request in innocent} == {(COMPLETED, 0)}
    assert {(request.status, request.error_code) for request in guilty} == {(FAILED, WORKER_LOST)}
    assert max(duration(request) for request in guilty) <= 600


def test_rescues_that_use_attempts_are_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: with rescues that use an attempt and have no backoff, innocents fail."""

    def counted(*args: Any, rescued: Rescued | None = None, **kwargs: Any) -> Any:
        del rescued
        return rescue(*args, **kwargs)

    rescue = writes.rescue
    monkeypatch.setattr(writes, "rescue", counted)
    violations, requests = outcomes(trial(0, POISON, 1))
    _, innocent = split(trial(0, POISON, 1), requests)
    assert any(request.status is FAILED for request in innocent)
    assert any("innocent" in violation for violation in violations)


def test_without_probation_innocents_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: without probation, suspects run side by side, and innocents fail."""
    monkeypatch.setattr(Probation, "is_free", True)
    violations = chain.from_iterable(outcomes(trial(seed, POISON, 3))[0] for seed in range(20))
    assert any("innocent" in violation for violation in violations)


def crashes(*times: float, workers: int) -> tuple[Trouble, ...]:
    """Crash every worker at each of these times, in seconds."""
    waits = [time - before for before, time in pairwise((0, *times))]
    others = [Trouble(kind=Kind.CRASH, after=0)] * (workers - 1)
    first = [Trouble(kind=Kind.CRASH, after=wait) for wait in waits]
    return tuple(chain.from_iterable((trouble, *others) for trouble in first))


def test_two_kills_of_a_whole_fleet_cost_less_than_an_hour() -> None:
    """64 requests of 600 s on 2 workers become suspects, and all complete within an hour."""
    schedule = Schedule(
        seed=1,
        workers=2,
        jobs=(Job(seconds=600),) * 64,
        troubles=crashes(30, 80, workers=2),
        concurrency=32,
        timeout=3600,
        poll=10,
    )
    violations, requests = outcomes(schedule)
    assert violations == []
    assert {(request.status, request.retry_count) for request in requests} == {(COMPLETED, 0)}
    assert max(duration(request) for request in requests) <= 3600


def test_long_requests_run_again_soon_after_two_kills() -> None:
    """One worker starts 32 requests of 10 h one after the other, each after a probation."""
    schedule = Schedule(
        seed=2,
        workers=1,
        jobs=(Job(seconds=36_000),) * 32,
        troubles=crashes(30, 80, workers=1),
        concurrency=32,
        timeout=80_000,
        patience=40 * 60,
    )
    began: dict[str, float] = {}
    for run in handler_runs(schedule):
        began[run.request_id] = max(run.began, began.get(run.request_id, 0))
    killed = 80
    assert len(began) == 32
    assert all(killed < start <= killed + 35 * 60 for start in began.values())


def test_a_crash_loop_without_a_poison_fails_no_request() -> None:
    """Every worker crashes 20 s after its start, for ten minutes, and all requests complete."""
    schedule = Schedule(
        seed=3,
        workers=2,
        jobs=(Job(seconds=15),) * 60,
        troubles=crashes(*range(20, 601, 20), workers=2),
        concurrency=8,
        trouble_for=620,
    )
    violations, requests = outcomes(schedule)
    assert violations == []
    assert {request.status for request in requests} == {COMPLETED}


def test_a_poison_without_retries_ends_with_its_first_worker() -> None:
    """With MaxRetries 0, a request must not be started again after a crash."""
    schedule = trial(4, replace(POISON, max_retries=0), 1)
    violations, requests = outcomes(schedule)
    assert violations == []
    (poison,), innocent = split(schedule, requests)
    assert (poison.status, poison.rescues) == (FAILED, 1)
    assert {request.status for request in innocent} == {COMPLETED}
