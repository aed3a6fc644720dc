"""Run schedules in virtual time."""

from __future__ import annotations

import os
from typing import Any, Final, TypeVar

import anyio
import trio
from trio.testing import MockClock

from simulation.judge import Run
from simulation.pausing import Stalled
from simulation.schedule import Schedule
from simulation.world import World
from streamer_store import AsyncRequest

SomeWorld = TypeVar("SomeWorld", bound=World)
FIRST_SEED: Final = int(os.environ.get("STREAMER_TEST_SEED", "0"))
SCHEDULES: Final = int(os.environ.get("STREAMER_TEST_SCHEDULES", "1000"))


def seeds(one_in: int) -> range:
    """Return the seeds of a test that runs one for so many of STREAMER_TEST_SCHEDULES."""
    return range(FIRST_SEED, FIRST_SEED - (-SCHEDULES // one_in))


def simulate(schedule: Schedule) -> list[str]:
    """Run one schedule in virtual time, and return what should not have happened.

    The same seed gives the same run.
    """
    return run_world(World, schedule)[0]


def violations_in(world: type[World], schedule: Schedule) -> list[str]:
    """Run one schedule in a world of this class. Return what should not have happened."""
    return run_world(world, schedule)[0]


def handler_runs(schedule: Schedule) -> list[Run]:
    """Run one schedule and return every call of a handler."""
    return run_world(World, schedule)[1].runs


def outcomes(schedule: Schedule) -> tuple[list[str], list[AsyncRequest]]:
    """Run one schedule. Return what should not have happened, and the requests in order."""
    violations, world = run_world(World, schedule)
    return violations, list(world.requests.values())


def run_world(world_class: type[SomeWorld], schedule: Schedule) -> tuple[list[str], SomeWorld]:
    """Run one schedule in a world of this class. Return what should not have happened, and it."""
    scheduler: Any = trio._core._run
    allowed = scheduler._ALLOW_DETERMINISTIC_SCHEDULING
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True
    scheduler._r.seed(schedule.seed)
    clock = MockClock(autojump_threshold=0)

    async def main() -> tuple[list[str], SomeWorld]:
        world = world_class(schedule, clock)
        violations: list[str] = []
        try:
            violations = await world.run()
        except* Stalled:
            pass
        return violations + world.queue.stalls, world

    try:
        return anyio.run(main, backend="trio", backend_options={"clock": clock})
    finally:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = allowed
