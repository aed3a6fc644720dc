"""A world that knows when claims were sent, and what is written to the rows of the fleet."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup
from trio.testing import MockClock

from simulation.engine import WorkerEngine
from simulation.journal import Journal
from simulation.judge import Run
from simulation.schedule import Kind, Schedule
from simulation.world import World
from streamer_store import CallEnded, RequestStatus
from streamer_store.engine import Put, Update, Write
from streamer_store.pause import CONTROL_PAUSE
from streamer_store.schema import WORKERS
from streamer_store.values import Item
from streamer_worker.app import App
from support import START

_IN_HEARTBEAT: ContextVar[bool] = ContextVar("_IN_HEARTBEAT", default=False)
_CLAIMED: Final = {"S": RequestStatus.PROCESSING}


class ClaimEngine(WorkerEngine):
    """Records when each claim was first sent, and reports the time of the server.

    - `claims`: the request and the time of each claim, by its Version.
    - `late_heartbeats`: when copies of heartbeats took effect.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.claims: dict[str, tuple[str, float]] = {}
        self.late_heartbeats: list[float] = []
        self.observe: Callable[[CallEnded], object] = lambda _: None

    async def update(self, update: Update) -> Item:
        self._note((update,))
        token = _IN_HEARTBEAT.set(update.table is WORKERS and "Beat" in update.adds)
        try:
            return await super().update(update)
        finally:
            _IN_HEARTBEAT.reset(token)

    async def write_many(self, writes: Sequence[Write]) -> list[Any]:
        self._note(writes)
        return await super().write_many(writes)

    def _note(self, writes: Iterable[Write]) -> None:
        for write in writes:
            if isinstance(write, Update) and write.sets.get("Status") == _CLAIMED:
                claim = write.key, anyio.current_time()
                self.claims.setdefault(write.sets["Version"]["S"], claim)

    async def _call(self, call: Callable[[], Any]) -> Any:
        began = anyio.current_time()
        result = await super()._call(call)
        now = anyio.current_time()
        date = int(START.timestamp() + now)
        self.observe(CallEnded(operation="Call", seconds=now - began, date=date))
        return result

    async def _call_later(self, call: Callable[[], Any], delay: float) -> None:
        await super()._call_later(call, delay)
        if _IN_HEARTBEAT.get():
            self.late_heartbeats.append(anyio.current_time())


@dataclass(frozen=True, kw_only=True)
class PauseWrite:
    """A write to the row of pauses that took effect. `old`, `new`: the pause, by its key."""

    writer: str
    at: float
    key: str
    old: dict[str, str]
    new: dict[str, str]


@dataclass(kw_only=True)
class RowJournal(Journal):
    """Also notes which workers were declared dead, and each change of a pause.

    `declared_dead`: the workers whose row was removed by others, and that have no new one.
    """

    declared_dead: set[str] = field(default_factory=set)
    pauses: list[PauseWrite] = field(default_factory=list)

    def note_put(self, writer: str, put: Put, now: float) -> None:
        super().note_put(writer, put, now)
        if put.table is WORKERS:
            self.declared_dead.discard(writer)

    def note_delete(self, writer: str, worker_id: str, now: float) -> None:
        row = self._rows.get(worker_id)
        if row is not None and row.writer != writer:
            self.declared_dead.add(row.writer)
        super().note_delete(writer, worker_id, now)

    def note_update(self, writer: str, update: Update, old: Item | None, now: float) -> None:
        super().note_update(writer, update, old, now)
        if update.table is WORKERS and update.key == CONTROL_PAUSE:
            for key in (*update.sets, *update.removes):
                before, after = _texts((old or {}).get(key)), _texts(update.sets.get(key))
                self.pauses.append(
                    PauseWrite(writer=writer, at=now, key=key, old=before, new=after)
                )


def _texts(value: Any) -> dict[str, str]:
    return {name: text["S"] for name, text in (value or {"M": {}})["M"].items()}


def seconds_of(time: str) -> float:
    """Return a stored time in seconds of the simulation."""
    return (datetime.fromisoformat(time) - START).total_seconds()


class ClaimWorld(World):
    """A world that knows when the claim of each run was sent.

    `sent`: by the number of the run.
    """

    _engine_class = ClaimEngine

    def __init__(self, schedule: Schedule, clock: MockClock) -> None:
        super().__init__(schedule, clock)
        self.sent: dict[int, float] = {}
        self.journal = self.table.journal = RowJournal()

    async def run(self) -> list[str]:
        violations = await super().run()
        return violations + list(self._judge())

    def _judge(self) -> Iterable[str]:
        """Return what should not have happened, once all has ended."""
        return ()

    @property
    def max_skew(self) -> float:
        """By how many seconds the clocks of two workers may differ at most."""
        jumps = [each for each in self.schedule.troubles if each.kind is Kind.CLOCK]
        return 2 * self.schedule.skew + sum(abs(jump.seconds) for jump in jumps)

    def clock_at(self, worker: str, time: float) -> datetime:
        """Return what the clock of a worker shows at this time, unless it is set meanwhile."""
        return START + timedelta(seconds=time) + self.clocks[worker].skew

    def _app(self, engine: WorkerEngine, rng: random.Random, calls: TaskGroup) -> App:
        app = super()._app(engine, rng, calls)
        assert isinstance(engine, ClaimEngine)
        engine.observe = app._events.emit
        return app

    def _record_start(self, run: Run) -> None:
        super()._record_start(run)
        engine = self._engine_of(run)
        assert isinstance(engine, ClaimEngine)
        self.sent[run.number] = max(
            sent for request_id, sent in engine.claims.values() if request_id == run.request_id
        )
