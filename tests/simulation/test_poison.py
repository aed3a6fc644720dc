"""Requests that end their workers, in virtual time: they fail, and their neighbours do not."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from itertools import chain, pairwise
from typing import Any

import pytest

from simulation.schedule import Job, Kind, Schedule, Trouble
from simulation.world import ends, story
from streamer_store import AsyncRequest, RequestStatus, writes
from streamer_store.rescues import Rescued
from streamer_worker.error_codes import WORKER_LOST
from streamer_worker.intake.probation import Probation

COMPLETED, FAILED = RequestStatus.COMPLETED, RequestStatus.FAILED
INNOCENT = Job(seconds=4)
POISON = Job(seconds=4, kills=2.0)
STARVING = Job(seconds=4, starves=20.0)
SEEDS = range(20)


def trial(seed: int, poison: Job, poisons: int) -> Schedule:
    """Two supervised workers, 60 requests of 4 s, and some that end their worker after 2 s."""
    step = 60 // (poisons + 1)
    jobs = [INNOCENT] * 60
    for number in range(poisons):
        jobs.insert(step * (number + 1), poison)
    return Schedule(seed=seed, workers=2, jobs=tuple(jobs), concurrency=32, trouble_for=0)


def split(schedule: Schedule, found: list[AsyncRequest]) -> tuple[list[Any], list[Any]]:
    """Return the guilty and the innocent."""
    paired = list(zip(schedule.jobs, found, strict=True))
    guilty = [each for job, each in paired if job is not INNOCENT]
    return guilty, [each for job, each in paired if job is INNOCENT]


def lasted(request: AsyncRequest) -> float:
    """Return the seconds from a request's creation to its end."""
    assert isinstance(request.created_at, datetime)
    assert isinstance(request.processing_ended, datetime)
    return (request.processing_ended - request.created_at).total_seconds()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("poison", "poisons"), [(POISON, 1), (POISON, 3), (STARVING, 1)], ids=["1", "3", "starving"]
)
def test_no_innocent_fails_beside_a_poison(poison: Job, poisons: int, seed: int) -> None:
    """All 60 are COMPLETED without an attempt used; the poison ends within 10 minutes."""
    schedule = trial(seed, poison, poisons)
    violations, found = ends(schedule)
    assert violations == []
    guilty, innocent = split(schedule, found)
    assert {(each.status, each.retry_count) for each in innocent} == {(COMPLETED, 0)}
    assert {(each.status, each.error_code) for each in guilty} == {(FAILED, WORKER_LOST)}
    assert max(lasted(each) for each in guilty) <= 600


def test_the_rescue_of_before_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: each loss uses an attempt, and everything runs again at once."""

    def counted(*given: Any, rescued: Rescued | None = None, **fields: Any) -> Any:
        del rescued
        return rescue(*given, **fields)

    rescue = writes.rescue
    monkeypatch.setattr(writes, "rescue", counted)
    violations, found = ends(trial(0, POISON, 1))
    _, innocent = split(trial(0, POISON, 1), found)
    assert any(each.status is FAILED for each in innocent)
    assert any("innocent" in each for each in violations)


def test_without_probation_innocents_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: suspects that run side by side cannot be told apart."""
    monkeypatch.setattr(Probation, "is_free", True)
    found = (ends(trial(seed, POISON, 3))[0] for seed in SEEDS)
    assert any("innocent" in each for violations in found for each in violations)


def crashes(*times: float, workers: int) -> tuple[Trouble, ...]:
    """Crash every worker at each of these times, in seconds."""
    waits = [time - before for before, time in pairwise((0, *times))]
    others = [Trouble(kind=Kind.CRASH, after=0)] * (workers - 1)
    first = [Trouble(kind=Kind.CRASH, after=wait) for wait in waits]
    return tuple(chain.from_iterable((each, *others) for each in first))


def test_two_kills_of_a_whole_fleet_cost_less_than_an_hour() -> None:
    """256 requests of 600 s on 8 workers are all suspects, and innocent."""
    schedule = Schedule(
        seed=1,
        workers=8,
        jobs=(Job(seconds=600),) * 256,
        troubles=crashes(30, 80, workers=8),
        concurrency=32,
        timeout=3600,
        poll=10,
    )
    violations, found = ends(schedule)
    assert violations == []
    assert {(each.status, each.retry_count) for each in found} == {(COMPLETED, 0)}
    assert max(lasted(each) for each in found) <= 3600


def test_long_requests_run_again_soon_after_two_kills() -> None:
    """One worker, 32 requests of 10 h: each has its probation, then the next one starts."""
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
    for run in story(schedule):
        began[run.request_id] = max(run.began, began.get(run.request_id, 0))
    killed = 80
    assert len(began) == 32
    assert all(killed < each <= killed + 35 * 60 for each in began.values())


def test_a_crash_loop_without_a_poison_fails_nothing() -> None:
    """Every worker ends 20 s after its start, for ten minutes: none lives to run a suspect."""
    schedule = Schedule(
        seed=3,
        workers=2,
        jobs=(Job(seconds=15),) * 60,
        troubles=crashes(*range(20, 601, 20), workers=2),
        concurrency=8,
        trouble_for=620,
    )
    violations, found = ends(schedule)
    assert violations == []
    assert {each.status for each in found} == {COMPLETED}


def test_a_poison_without_retries_ends_with_its_first_worker() -> None:
    """MaxRetries 0: it must not be started again after a crash."""
    schedule = trial(4, replace(POISON, max_retries=0), 1)
    violations, found = ends(schedule)
    assert violations == []
    (poison,), innocent = split(schedule, found)
    assert (poison.status, poison.rescues) == (FAILED, 1)
    assert {each.status for each in innocent} == {COMPLETED}
