"""Run schedules in virtual time."""

from __future__ import annotations

from typing import Any

import anyio
import trio
from trio.testing import MockClock

from simulation.judge import Run
from simulation.pausing import Stalled
from simulation.schedule import Schedule
from simulation.world import World
from streamer_store import AsyncRequest


def simulate(schedule: Schedule) -> list[str]:
    """Run one schedule in virtual time, and return what should not have happened.

    The same seed gives the same run.
    """
    return _run(schedule)[0]


def violations_in(world: type[World], schedule: Schedule) -> list[str]:
    """Run one schedule in a world of this class. Return what should not have happened."""
    return _run(schedule, world)[0]


def handler_runs(schedule: Schedule) -> list[Run]:
    """Run one schedule and return every call of a handler."""
    return _run(schedule)[1].runs


def outcomes(schedule: Schedule) -> tuple[list[str], list[AsyncRequest]]:
    """Run one schedule. Return what should not have happened, and the requests in order."""
    violations, world = _run(schedule)
    return violations, list(world.requests.values())


def _run(schedule: Schedule, world_class: type[World] = World) -> tuple[list[str], World]:
    scheduler: Any = trio._core._run
    allowed = scheduler._ALLOW_DETERMINISTIC_SCHEDULING
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True
    scheduler._r.seed(schedule.seed)
    clock = MockClock(autojump_threshold=0)

    async def main() -> tuple[list[str], World]:
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
