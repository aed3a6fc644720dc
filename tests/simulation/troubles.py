"""What goes wrong in a fleet in virtual time: crashes, pauses, cuts, outages and clocks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime, timedelta

import anyio
from anyio.abc import TaskGroup
from trio.testing import MockClock

from simulation.engine import SharedTable, WorkerEngine
from simulation.judge import Run
from simulation.pausing import WORKER, RunQueue
from simulation.schedule import Faults, Kind, Schedule, Trouble
from unit.worker.harness import LoopClock


class SkewedClock(LoopClock):
    """The clock of a worker. `skew` is added to its wall time."""

    skew = timedelta()

    def now(self) -> datetime:
        return super().now() + self.skew


class Troubles(ABC):
    """The workers of a schedule, and the troubles that it gives them.

    `tasks`, `queue`: set when the schedule begins.
    """

    tasks: TaskGroup
    queue: RunQueue

    def __init__(self, schedule: Schedule, clock: MockClock) -> None:
        self.schedule = schedule
        self.table = SharedTable(due_index=schedule.due_index)
        self.runs: list[Run] = []
        self.engines: list[WorkerEngine] = []
        self.scopes: dict[str, anyio.CancelScope] = {}
        self.clocks: dict[str, SkewedClock] = {}
        self._clock = clock

    @abstractmethod
    def _start_worker(self) -> None:
        """Start a worker with a new engine."""

    async def _make_trouble(self) -> None:
        for trouble in self.schedule.troubles:
            await anyio.sleep(trouble.after)
            match trouble.kind:
                case Kind.CRASH:
                    self._crash(trouble)
                case Kind.PAUSE:
                    await self._pause(self._victim(trouble), trouble.seconds)
                case Kind.CUT:
                    await self._cut(trouble)
                case Kind.FREEZE:
                    self._freeze(trouble)
                case Kind.OUTAGE:
                    await self._outage(trouble)
                case Kind.CLOCK:
                    skew = timedelta(seconds=trouble.seconds)
                    self.clocks[self._victim(trouble).name].skew += skew

    def _victim(self, trouble: Trouble) -> WorkerEngine:
        living = [engine for engine in self.engines if not engine.dead]
        return living[trouble.victim % len(living)]

    def _starve(self, engine: WorkerEngine, seconds: float) -> None:
        engine.cpu += seconds
        token = WORKER.set("")  # The pause must not stop the task that ends it.
        self.tasks.start_soon(self._pause, engine, seconds)
        WORKER.reset(token)

    def _crash(self, trouble: Trouble) -> None:
        self._kill(self._victim(trouble))

    def _kill(self, engine: WorkerEngine) -> None:
        engine.dead = True
        for run in self.runs:
            if run.worker == engine.name and run.ended is None:
                run.torn = True
        self.scopes[engine.name].cancel()
        self._start_worker()

    async def _pause(self, engine: WorkerEngine, seconds: float) -> None:
        self.queue.paused.add(engine.name)
        began = anyio.current_time()
        try:
            await anyio.sleep(seconds)
        finally:
            self.queue.paused.discard(engine.name)
            engine.disturbed.append((began, anyio.current_time()))

    async def _cut(self, trouble: Trouble) -> None:
        engine = self._victim(trouble)
        engine.cut = True
        began = anyio.current_time()
        try:
            await anyio.sleep(trouble.seconds)
        finally:
            engine.cut = False
            engine.disturbed.append((began, anyio.current_time()))

    def _freeze(self, trouble: Trouble) -> None:
        began = anyio.current_time()
        self.table.journal.begin_blackout(began, trouble.seconds)
        self._clock.jump(trouble.seconds)
        for engine in self.engines:
            engine.disturbed.append((began, anyio.current_time()))

    async def _outage(self, trouble: Trouble) -> None:
        self.table.journal.begin_blackout(anyio.current_time(), trouble.seconds)
        for engine in self.engines:
            engine.cut = True
        began = anyio.current_time()
        engine.disturbed.append((began, anyio.current_time()))
        try:
            await anyio.sleep(trouble.seconds)
        finally:
            for engine in self.engines:
                engine.cut = False
                engine.disturbed.append((began, anyio.current_time()))
            self.table.journal.end_blackout(anyio.current_time())

    def _stop_faults(self) -> None:
        for engine in self.engines:
            engine.cut = False
            engine.faults = Faults()
