"""Fleets in virtual time whose workers hold an action back, or whose fuse blows, with all troubles.

`STREAMER_TEST_SCHEDULES=5000 pytest tests/simulation/test_action_pauses.py` runs more seeds.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import chain

import pytest

from simulation.action_pauses import FuseWorld, HoldWorld, PausingWorld
from simulation.runner import run_world, seeds, violations_in
from simulation.schedule import Faults, Job, Kind, Schedule, Trouble, schedule_of
from streamer_store import Pause
from streamer_store.pauses import PauseTable
from streamer_worker.execution.pausing import Pausing
from streamer_worker.fleet.heartbeat import Heartbeat
from streamer_worker.fleet.pauses import KnownPauses
from streamer_worker.intake.pause_gate import PauseGate

SEEDS = seeds(50)
_HEALTHY_AGAIN = FuseWorld.broken_for


def _holding(seed: int) -> Schedule:
    """Return a schedule of which a few requests hold back their action."""
    rng = random.Random(f"holds {seed}")
    jobs = [Job(seconds=rng.choice((0.5, 1, 3))) for _ in range(60)]
    for number in (5, 12, 30, 45):
        jobs[number] = replace(jobs[number], snoozes=True)
    return _troubled(seed, *jobs)


def _failing(seed: int) -> Schedule:
    """Return a schedule of an action that fails for a minute, and of one that does not."""
    rng = random.Random(f"fuses {seed}")
    failing = (Job(seconds=rng.choice((0.5, 1, 3)), max_retries=5) for _ in range(30))
    others = (Job(seconds=5, action="other") for _ in range(60))
    return _troubled(seed, *failing, *others)


def _troubled(seed: int, *jobs: Job) -> Schedule:
    """Return a schedule in which each worker's clock is right, or up to 2 s off.

    No clock is set: when a pause ends, each worker judges by its own.
    """
    schedule = schedule_of(seed)
    troubles = (each for each in schedule.troubles if each.kind is not Kind.CLOCK)
    schedule = replace(schedule, jobs=jobs, old_workers=0, patience=600)
    return replace(schedule, troubles=tuple(troubles), skew=2.0 * (seed % 2))


def _calm(schedule: Schedule) -> Schedule:
    """Return the schedule without faults, in which a worker dies every 20 seconds."""
    crash = Trouble(kind=Kind.CRASH, after=20)
    return replace(
        schedule,
        faults=Faults(),
        troubles=tuple(replace(crash, victim=number) for number in range(4)),
        cancels=(),
        skew=0.0,
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_no_worker_that_knows_of_a_hold_starts_the_action(seed: int) -> None:
    """Whatever happens to the workers. No hold is shortened, and all requests end.

    Proves PAUSE-1 and PAUSE-2.
    """
    assert violations_in(HoldWorld, _holding(seed)) == []


@pytest.mark.parametrize("seed", range(2))
def test_each_worker_knows_of_a_hold_after_a_heartbeat(seed: int) -> None:
    """Also those that start meanwhile, in the place of one that died."""
    assert violations_in(HoldWorld, _calm(_holding(seed))) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_an_action_whose_fuse_has_blown_is_only_probed(seed: int) -> None:
    """By one worker each time, whatever happens to them. All requests end. Proves PAUSE-3."""
    assert violations_in(FuseWorld, _failing(seed)) == []


@pytest.mark.parametrize("seed", range(2))
def test_a_probe_that_succeeds_ends_the_pause(seed: int) -> None:
    """The requests of the other action do not wait for it, although workers die."""
    violations, world = run_world(FuseWorld, _calm(_failing(seed)))
    assert violations == []
    assert len(world.probes) > 1
    assert world.others_waited_until < _HEALTHY_AGAIN


def _everything_runs(patch: pytest.MonkeyPatch) -> None:
    async def admit(*_: object) -> bool:
        return True

    patch.setattr(PauseGate, "may_run", lambda *_: True)
    patch.setattr(PauseGate, "admit", admit)


def _pauses_are_never_read(patch: pytest.MonkeyPatch) -> None:
    async def read(_self: Heartbeat) -> None: ...

    patch.setattr(Heartbeat, "_try_read_pauses", read)
    patch.setattr("streamer_worker.incarnation.CONTROL_PAUSE", "control#other")


def _the_last_hold_counts(patch: pytest.MonkeyPatch) -> None:
    start = PauseTable.start

    async def extend(self: PauseTable, pause: Pause) -> bool:
        await start(self, pause)
        return True

    patch.setattr(PauseTable, "extend", extend)
    patch.setattr(KnownPauses, "find", lambda *_: None)


def _any_worker_probes(patch: pytest.MonkeyPatch) -> None:
    async def move(_self: PauseTable, pause: Pause, *_: object, **__: object) -> Pause:
        return pause

    patch.setattr(PauseTable, "move_probe", move)


def _probes_are_always_due(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PauseGate, "_is_due", lambda *_: True)


def _probes_end_nothing(patch: pytest.MonkeyPatch) -> None:
    async def close(_self: Pausing, _action: str) -> None: ...

    patch.setattr(Pausing, "_close", close)


@pytest.mark.parametrize(
    ("broken", "world_class", "schedules", "sign"),
    [
        (_everything_runs, HoldWorld, _holding, ": held"),
        (_pauses_are_never_read, HoldWorld, _holding, "had to know"),
        (_the_last_hold_counts, HoldWorld, _holding, "shortened"),
        (_everything_runs, FuseWorld, _failing, ": fused"),
        (_any_worker_probes, FuseWorld, _failing, "moved nothing"),
        (_probes_are_always_due, FuseWorld, _failing, "it was due at"),
        (_probes_end_nothing, FuseWorld, _failing, "did not end"),
    ],
)
def test_the_checks_detect_broken_pauses(
    broken: Callable[[pytest.MonkeyPatch], None],
    world_class: type[PausingWorld],
    schedules: Callable[[int], Schedule],
    sign: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Negative controls: each broken variant has a violation within a few runs."""
    broken(monkeypatch)
    tried = chain.from_iterable((_calm(schedules(seed)), schedules(seed)) for seed in range(3))
    assert any(
        sign in violation
        for schedule in tried
        for violation in violations_in(world_class, replace(schedule, patience=60))
    )
