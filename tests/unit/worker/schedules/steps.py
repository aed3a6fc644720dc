"""Definitions of schedules, and workers that watch them, for tests."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any, Final

from streamer_store import RequestStatus, ScheduleRow, WorkerRow, memory_stores
from streamer_worker.cron import CronExpression
from streamer_worker.events import Events
from streamer_worker.fleet.membership import Membership
from streamer_worker.fleet.view import FleetView
from streamer_worker.runtime import Runtime
from streamer_worker.schedules.definition import Definition
from streamer_worker.schedules.ended import EndedSchedules
from streamer_worker.schedules.pausing import pause_in_force
from streamer_worker.schedules.ticker import Ticker
from support import START, ManualClock
from unit.worker.harness import Recorder

BEGAN: Final = START.replace(second=0, microsecond=0) + timedelta(minutes=1)
"""15:10:00, when the workers of a CronBench start."""


def definition(cron: str = "* * * * *", name: str = "nightly", **options: Any) -> Definition:
    """Return a definition with an hour of catch_up, unless the options say otherwise."""
    defaults: dict[str, Any] = {
        "action": "echo",
        "payload": {"n": 1},
        "catch_up": timedelta(hours=1),
        "missed": "last",
        "priority": None,
        "max_retries": None,
    }
    return Definition(name=name, expression=CronExpression(cron, "UTC"), **defaults | options)


class Watcher:
    """A worker of a CronBench, and its Ticker. `seconds_off`: how far its clock is off."""

    def __init__(self, bench: CronBench, name: str, definitions: tuple[Definition, ...]) -> None:
        clock = bench.clock
        self.row = WorkerRow(
            worker_id=name,
            started_at=clock.now(),
            schedules=frozenset(one.listing for one in definitions),
        )
        self.membership = Membership(self.row, lease=16.0, clock=clock)
        self.seconds_off = 0.0
        arguments: dict[str, Any] = {
            "schedules": bench.stores.schedules,
            "membership": self.membership,
            "clock_skew": lambda: self.seconds_off,
            "runtime": Runtime(clock=clock, rng=random.Random(7), events=Events(bench.recorder)),
        }
        self.ticker = Ticker(
            definitions={one.name: one for one in definitions},
            started=self.row.started_at,
            is_paused=lambda name: (
                pause_in_force(self.membership.view.controls, name, clock.now()) is not None
            ),
            lease=16.0,
            **arguments,
        )
        self.ended = EndedSchedules(**arguments)


class CronBench:
    """Workers that watch schedules on stores in memory, step by step."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.clock.advance((BEGAN - START).total_seconds())
        self.recorder = Recorder()
        self.stores = memory_stores(clock=self.clock, rng=random.Random(7))
        self.watchers: dict[str, Watcher] = {}

    async def start(self, name: str, *definitions: Definition) -> Watcher:
        """Start a worker with these schedules, and let all workers see it."""
        watcher = self.watchers[name] = Watcher(self, name, definitions)
        await self.stores.workers.register(watcher.row)
        await self.look()
        return watcher

    async def end(self, watcher: Watcher) -> None:
        """End a worker, and let the others see it."""
        del self.watchers[watcher.row.worker_id]
        await self.stores.workers.remove(watcher.row.worker_id)
        await self.look()

    async def look(self) -> None:
        """Let all workers read the fleet."""
        read = await self.stores.workers.read_all()
        live = tuple(sorted(read.workers, key=lambda row: (row.started_at, row.worker_id)))
        for name, watcher in self.watchers.items():
            watcher.membership.on_heartbeat(self.clock.steady())
            watcher.membership.on_fleet_view(
                FleetView(worker_id=name, live=live, controls=read.controls)
            )

    async def step(self, *watchers: Watcher) -> int:
        """Let these workers, or all, do a step one after another. Return the requests made."""
        made = 0
        for watcher in watchers or list(self.watchers.values()):
            made += await watcher.ticker.step()
        return made

    async def run(self, seconds: int, *, step: int = 1) -> None:
        """Let all workers work for so long. They look at the fleet every four seconds."""
        for second in range(0, seconds, step):
            self.clock.advance(step)
            if second % 4 == 0:
                await self.look()
            await self.step()

    async def ids(self) -> list[str]:
        """Return the ids of all requests, sorted."""
        found = self.stores.requests.get_by_status(RequestStatus.PENDING)
        return sorted([request.request_id async for request in found])

    async def row(self, name: str = "nightly") -> ScheduleRow:
        row = await self.stores.schedules.get(name)
        assert row is not None
        return row
