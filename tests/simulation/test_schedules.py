"""Whole fleets in virtual time, under seeded faults; `make simulate N=100000` runs more.

What must hold is in `Judge` and in `Journal`. A seed that fails can be run again alone:
`make simulate SEED=... N=1`. What hypothesis finds is printed as the smallest Schedule that fails.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, example, given, settings

from simulation.schedule import (
    Cancel,
    Faults,
    Job,
    Kind,
    Schedule,
    Trouble,
    drawn,
    schedules,
)
from simulation.world import simulate, story
from streamer_store import claims, workers, writes
from streamer_store.engine import Absent
from streamer_worker.execution.dispatcher import Dispatcher
from streamer_worker.execution.progress import ProgressWriter
from streamer_worker.fleet.heartbeat import Heartbeat
from streamer_worker.fleet.view import Fleet

FIRST = int(os.environ.get("STREAMER_TEST_SEED", "0"))
COUNT = int(os.environ.get("STREAMER_TEST_SCHEDULES", "1000"))
BATCH = 50


def _faults(seeds: range, *, stop_at_first: bool = False) -> dict[int, list[str]]:
    found = {}
    for seed in seeds:
        violations = simulate(drawn(seed))
        if violations:
            found[seed] = violations
            if stop_at_first:
                break
    return found


@pytest.mark.parametrize("first", range(FIRST, FIRST + COUNT, BATCH))
def test_whatever_happens_nothing_is_lost_or_done_by_two(first: int) -> None:
    """Crashes, cuts, freezes, outages, lost and late and doubled writes, stale reads."""
    assert _faults(range(first, min(first + BATCH, FIRST + COUNT))) == {}


_JOB = Job(
    seconds=0.1,
    reports=False,
    raises=False,
    snoozes=False,
    lingers=False,
    max_retries=0,
    tenant=None,
)
_AT_ONCE = Trouble(kind=Kind.CRASH, after=0, seconds=0, victim=0)
_CRASHES_WHILE_IT_STARTS = Schedule(
    seed=0,
    workers=1,
    jobs=(_JOB,),
    troubles=(_AT_ONCE,),
    cancels=(Cancel(job=0, after=0, again=0),),
    faults=Faults(before=0.02, after=0, late=0, twice=0.02, slow=0, stale=0),
)
_CRASHES_BEFORE_IT_STARTS = replace(
    _CRASHES_WHILE_IT_STARTS,
    troubles=(_AT_ONCE, _AT_ONCE, replace(_AT_ONCE, kind=Kind.CLOCK, seconds=1)),
)


@settings(
    max_examples=COUNT // 5,
    deadline=None,
    derandomize=COUNT <= 1000,  # `make simulate N=5000` draws others each time
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@example(_CRASHES_WHILE_IT_STARTS)
@example(_CRASHES_BEFORE_IT_STARTS)
@given(schedules())
def test_of_schedules_of_any_shape_nothing_is_lost_either(schedule: Schedule) -> None:
    """More and fewer workers, jobs, faults and troubles; the smallest that fails is told."""
    assert simulate(schedule) == []


def test_a_seed_repeats() -> None:
    """The same seed is the same schedule, to the last call of a handler."""
    assert story(drawn(11)) == story(drawn(11))


def _no_fence(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(writes, "_fence", lambda _held: ())


def _any_failed_condition_is_our_own_success(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(claims, "carries", lambda _item, _version: True)


def _mailbox_writes_make_rows(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(workers, "Present", lambda _name: Absent("Nothing"))


def _stopwatches_run_through_outages(patch: pytest.MonkeyPatch) -> None:
    observe = Fleet.observe
    patch.setattr(Fleet, "restart_timers", lambda _self: None)
    patch.setattr(
        Fleet,
        "observe",
        lambda self, rows, *, began, ended, max_gap: observe(
            self, rows, began=began, ended=ended, max_gap=max_gap * 1e9
        ),
    )


def _nobody_fences_itself(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Heartbeat, "_fence", lambda _self, _reason: None)


def _cancellations_are_not_heard(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Dispatcher, "cancel", lambda _self, _versions: None)


def _checkpoints_are_not_awaited(patch: pytest.MonkeyPatch) -> None:
    wrote = ProgressWriter._try_checkpoint

    async def wrote_or_not(self: ProgressWriter, value: object) -> bool:
        await wrote(self, value)
        return True

    patch.setattr(ProgressWriter, "_try_checkpoint", wrote_or_not)


@pytest.mark.parametrize(
    "broken",
    [
        _no_fence,
        _any_failed_condition_is_our_own_success,
        _mailbox_writes_make_rows,
        _stopwatches_run_through_outages,
        _nobody_fences_itself,
        _cancellations_are_not_heard,
        _checkpoints_are_not_awaited,
    ],
)
def test_what_must_hold_catches_a_broken_worker(
    broken: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative controls: each variant is found out within a few hundred schedules."""
    broken(monkeypatch)
    assert _faults(range(1000), stop_at_first=True) != {}
