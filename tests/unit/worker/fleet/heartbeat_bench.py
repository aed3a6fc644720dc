"""The heartbeat of one worker, and a listener that records."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import anyio
import pytest

from streamer_store import Clock, WorkerRow
from streamer_store.values import Item
from streamer_worker.events import HeartbeatTried
from streamer_worker.fleet.heartbeat import Heartbeat, WorkerStatus
from streamer_worker.fleet.view import FleetView
from streamer_worker.settings import PresenceSettings
from support import START, ManualClock
from unit.worker.harness import World

HEARTBEAT = 4.0
LEASE = 16.0
MARGIN = 2.0
MANY = 10**6


class RecordingListener:
    """Records the calls of the heartbeat."""

    def __init__(self) -> None:
        self.views: list[FleetView] = []
        self.pauses: list[tuple[Item | None, float]] = []
        self.cancelled: list[frozenset[str]] = []
        self.drained = 0
        self.fenced: list[str] = []
        self.paused: list[bool] = []
        self.heartbeats_at: list[float] = []

    def on_heartbeat(self, began: float) -> None:
        self.heartbeats_at.append(began)

    def on_fleet_view(self, view: FleetView) -> None:
        self.views.append(view)

    def on_pauses(self, item: Item | None, began: float) -> None:
        self.pauses.append((item, began))

    def cancel(self, versions: frozenset[str]) -> None:
        self.cancelled.append(versions)

    def drain(self) -> None:
        self.drained += 1

    def fence(self, reason: str, *, paused: bool) -> None:
        self.fenced.append(reason)
        self.paused.append(paused)


class Bench:
    """The heartbeat of `me`, on a manual clock unless another is given."""

    def __init__(self, world: World, clock: Clock | None = None) -> None:
        self.world = world
        self.time = ManualClock()
        self.listener = RecordingListener()
        self.worker_status = WorkerStatus()
        self.cpu = 0.0
        self.heartbeat = Heartbeat(
            row=WorkerRow(worker_id="me", started_at=START),
            workers=world.stores.workers,
            settings=PresenceSettings(heartbeat=HEARTBEAT, lease=LEASE),
            worker_status=lambda: self.worker_status,
            listener=self.listener,
            runtime=replace(world.runtime, clock=clock or self.time),
            cpu=lambda: self.cpu,
        )

    async def steps(self, times: int = 1) -> None:
        """Make one step per heartbeat, as the loop does."""
        for _ in range(times):
            self.time.advance(HEARTBEAT)
            await self.heartbeat.step()

    async def slow(
        self, operation: str, call: Callable[[], Coroutine[Any, Any, None]], seconds: float
    ) -> None:
        """Make the call. The table takes so long for this operation of it."""
        fault = self.world.engine.hold(operation)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await fault.wait_reached()
            self.time.advance(seconds)
            fault.let_go()

    async def row(self) -> WorkerRow:
        rows = await self.world.stores.workers.list()
        return next(row for row in rows if row.worker_id == "me")

    def outcomes(self) -> list[str]:
        return [event.outcome for event in self.world.recorder.of(HeartbeatTried)]

    def dead(self) -> list[str]:
        return [row.worker_id for row in self.listener.views[-1].dead]


async def registered(world: World, *, others: int = 0, clock: Clock | None = None) -> Bench:
    """Register `me` in a fleet of `others` without heartbeats."""
    for number in range(others):
        row = WorkerRow(worker_id=f"other-{number}", started_at=START)
        await world.stores.workers.register(row)
    bench = Bench(world, clock)
    await bench.heartbeat.register()
    return bench


@pytest.fixture
async def bench(world: World) -> Bench:
    return await registered(world)
