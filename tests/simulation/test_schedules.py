"""Whole fleets in virtual time, with seeded faults. `make simulate N=100000` runs more of them.

The checks are in `Judge` and `Journal`. Run a failing seed alone with `make simulate SEED=... N=1`.
Hypothesis prints the smallest Schedule that fails.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

import anyio
import anyio.lowlevel
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings

from simulation.runner import SCHEDULES, handler_runs, seeds, simulate
from simulation.schedule import (
    Cancel,
    Faults,
    Job,
    Kind,
    Schedule,
    Trouble,
    schedule_of,
    schedules,
)
from streamer_store import claims, workers, writes
from streamer_store.conditions import Absent
from streamer_worker.execution.dispatcher import Dispatcher
from streamer_worker.execution.progress import ProgressWriter
from streamer_worker.fleet.heartbeat import Heartbeat
from streamer_worker.fleet.view import Fleet
from streamer_worker.intake.poller import Poller

BATCH = 50


def _violations(tried: range, *, stop_at_first: bool = False) -> dict[int, list[str]]:
    violations_by_seed = {}
    for seed in tried:
        violations = simulate(schedule_of(seed))
        if violations:
            violations_by_seed[seed] = violations
            if stop_at_first:
                break
    return violations_by_seed


@pytest.mark.parametrize("first", seeds(1)[::BATCH])
def test_no_request_is_lost_or_run_by_two_workers(first: int) -> None:
    """There are crashes, pauses, cuts, freezes and outages, faulty writes, and stale reads.

    Proves VERSION-2, FENCE-1, LEASE-1, LEASE-2 and LEASE-4.
    """
    assert _violations(range(first, min(first + BATCH, seeds(1).stop))) == {}


_JOB = Job(
    seconds=0.1,
    reports=False,
    raises=False,
    snoozes=False,
    lingers=False,
    max_retries=0,
    tenant=None,
)
_IMMEDIATE_CRASH = Trouble(kind=Kind.CRASH, after=0, seconds=0, victim=0)
_CRASHES_WHILE_IT_STARTS = Schedule(
    seed=0,
    workers=1,
    jobs=(_JOB,),
    troubles=(_IMMEDIATE_CRASH,),
    cancels=(Cancel(job=0, after=0, again=0),),
    faults=Faults(before=0.02, after=0, late=0, twice=0.02, slow=0, stale=0),
)
_CRASHES_BEFORE_IT_STARTS = replace(
    _CRASHES_WHILE_IT_STARTS,
    troubles=(
        _IMMEDIATE_CRASH,
        _IMMEDIATE_CRASH,
        replace(_IMMEDIATE_CRASH, kind=Kind.CLOCK, seconds=1),
    ),
)


_PAUSED_TWICE_AFTER_ITS_TIMEOUT = Schedule(
    seed=0,
    workers=1,
    jobs=(Job(seconds=50),),
    troubles=(
        Trouble(kind=Kind.PAUSE, after=30, seconds=40),
        Trouble(kind=Kind.PAUSE, after=0, seconds=15),
    ),
)


@settings(
    max_examples=SCHEDULES // 5,
    # Without Phase.explain: it traces each line, and shrinking takes seven times longer.
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink],
    deadline=None,
    derandomize=SCHEDULES <= 1000,  # `make simulate N=5000` draws new ones each time
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@example(_CRASHES_WHILE_IT_STARTS)
@example(_CRASHES_BEFORE_IT_STARTS)
@example(_PAUSED_TWICE_AFTER_ITS_TIMEOUT)
@given(schedules())
def test_schedules_of_any_shape_lose_no_request(schedule: Schedule) -> None:
    """Hypothesis draws workers, jobs, faults and troubles, and prints the smallest failure."""
    assert simulate(schedule) == []


def test_a_seed_repeats_its_run() -> None:
    """The same seed gives the same calls of handlers, at the same times."""
    assert handler_runs(schedule_of(11)) == handler_runs(schedule_of(11))


def test_a_worker_that_never_waits_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a loop in which no time passes ends the simulation."""

    async def poll(_self: Poller) -> NoReturn:
        while True:
            await anyio.lowlevel.checkpoint()

    monkeypatch.setattr(Poller, "step", poll)
    violations = simulate(schedule_of(0))
    assert any("no time passes" in violation and "poll" in violation for violation in violations)


def _no_fence(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(writes, "held_by", lambda _held: ())


def _every_failed_condition_counts_as_success(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(claims, "has_version", lambda _item, _version: True)


def _mailbox_writes_create_rows(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(workers, "Present", lambda _name: Absent("Nothing"))


def _timers_are_not_restarted_after_outages(patch: pytest.MonkeyPatch) -> None:
    observe = Fleet.observe
    patch.setattr(Fleet, "restart_timers", lambda _self: None)
    patch.setattr(
        Fleet,
        "observe",
        lambda self, rows, *, began, ended, max_gap: observe(
            self, rows, began=began, ended=ended, max_gap=max_gap * 1e9
        ),
    )


def _workers_do_not_fence_themselves(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Heartbeat, "_fence", lambda _self, _reason: None)


def _cancellations_are_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Dispatcher, "cancel", lambda _self, _versions: None)


def _checkpoints_need_not_succeed(patch: pytest.MonkeyPatch) -> None:
    wrote = ProgressWriter._try_checkpoint

    async def wrote_or_not(self: ProgressWriter, value: object) -> bool:
        await wrote(self, value)
        return True

    patch.setattr(ProgressWriter, "_try_checkpoint", wrote_or_not)


@pytest.mark.parametrize(
    "broken",
    [
        _no_fence,
        _every_failed_condition_counts_as_success,
        _mailbox_writes_create_rows,
        _timers_are_not_restarted_after_outages,
        _workers_do_not_fence_themselves,
        _cancellations_are_ignored,
        _checkpoints_need_not_succeed,
    ],
)
def test_the_checks_detect_a_broken_worker(
    broken: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative controls: each broken variant has a violation within 1,000 schedules."""
    broken(monkeypatch)
    assert _violations(range(1000), stop_at_first=True) != {}
