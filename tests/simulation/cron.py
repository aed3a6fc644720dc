"""A fleet in virtual time that makes the ticks of schedules, with seeded faults."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import anyio
import trio
from trio.testing import MockClock

from simulation import pausing
from simulation.engine import SharedTable, WatchedEngine, WorkerEngine
from simulation.handlers import never
from simulation.pausing import WORKER
from simulation.schedule import Faults
from simulation.troubles import SkewedClock
from streamer_store import StoreUnavailable
from streamer_store.reserved_ids import CRON_PREFIX
from streamer_store.schema import REQUESTS, Table
from streamer_store.stores import stores_over
from streamer_store.transitions import RequestStatus
from streamer_store.values import Item
from streamer_worker import Schedule, handler
from streamer_worker.cron import CronExpression
from streamer_worker.handlers.registry import registry
from streamer_worker.push.push_thread import push_off
from streamer_worker.settings import HttpSettings, ReaperSettings, Settings
from streamer_worker.wiring import build_app
from support import START

FAULTS: Final = Faults(before=0.02, after=0.05, late=0.05, twice=0.05, slow=0.05)
# Seconds after the last crash within which all ticks are made.
_REST: Final = 60.0
# The row of a schedule is written by then.
_LATEST_FIRST: Final = timedelta(minutes=3)


@dataclass(kw_only=True)
class CronWorld:
    """Runs two deployments, each with a schedule of its own.

    - `kill_every`: seconds between two crashes of a random worker, each of which is replaced.
    - `seconds`: for how long there are crashes and faults.
    - `crons`: the expression of each deployment's schedule.
    - `created`: how often the request of each tick was stored, by id.
    """

    seed: int
    clock: MockClock
    workers: int = 4
    kill_every: float = 2.0
    seconds: float = 300.0
    skew: bool = False
    faults: Faults = FAULTS
    crons: Mapping[str, str] = field(
        default_factory=lambda: {"reports": "*/20 * * * * *", "mails": "* * * * *"}
    )
    created: Counter[str] = field(default_factory=Counter)

    async def run(self) -> list[str]:
        """Run the workers, and return what should not have happened."""
        self._rng = random.Random(self.seed)
        self._table = _CountingTable(self.created)
        self._scopes: dict[str, tuple[str, WorkerEngine, anyio.CancelScope]] = {}
        self._started = 0
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            self._queue = pausing.install()
            for number in range(self.workers):
                self._start(list(self.crons)[number % len(self.crons)])
            tasks.start_soon(self._delete_ended)
            with anyio.move_on_after(self.seconds):
                await self._kill_some()
            end = START + timedelta(seconds=anyio.current_time())
            for _, engine, _ in self._scopes.values():
                engine.faults = Faults()
            await anyio.sleep(_REST)
            tasks.cancel_scope.cancel()
        return self._judge(end)

    def _judge(self, end: datetime) -> list[str]:
        """Return the ticks that were made twice, lost, or never due."""
        violations = [f"{tick} was made {n} times" for tick, n in self.created.items() if n > 1]
        for name, cron in self.crons.items():
            times = [tick for tick in self.created if tick.startswith(f"{CRON_PREFIX}{name}#")]
            if not times:
                violations.append(f"{name} was never made")
                continue
            first = datetime.fromisoformat(min(times).rpartition("#")[2])
            if first - START > _LATEST_FIRST:
                violations.append(f"{name} began at {first}")
            due = first - timedelta(seconds=1)
            for tick in CronExpression(cron, "UTC").after(due):
                if tick > end:
                    break
                request_id = f"{CRON_PREFIX}{name}#{tick:%Y-%m-%dT%H:%M:%SZ}"
                if not self.created[request_id]:
                    violations.append(f"{request_id} is lost")
        return violations

    def _start(self, schedule: str) -> None:
        self._started += 1
        name = f"w{self._started}"
        rng = random.Random(self._rng.getrandbits(64))
        engine = WorkerEngine(
            name, self._table, faults=self.faults, rng=rng, background=self._tasks
        )
        self._scopes[name] = (schedule, engine, anyio.CancelScope())
        self._tasks.start_soon(self._run_worker, schedule, engine, rng)

    async def _run_worker(self, schedule: str, engine: WorkerEngine, rng: random.Random) -> None:
        WORKER.set(engine.name)
        clock = SkewedClock()
        if self.skew:
            clock.skew = timedelta(seconds=rng.uniform(-5, 5))
        scope = self._scopes[engine.name][2]

        @handler("echo", schedules=[Schedule(schedule, cron=self.crons[schedule], missed="all")])
        async def echo(payload: dict[str, Any], ctx: Any) -> None: ...

        stores = stores_over(engine, clock=clock, rng=rng, report=lambda _: None)
        with scope:
            while True:
                try:
                    await build_app(
                        stores,
                        settings=Settings(
                            http=HttpSettings(enabled=False), reaper=ReaperSettings(enabled=False)
                        ),
                        registry=registry([echo]),
                        push=push_off,
                        leave=never,
                        clock=clock,
                        rng=rng,
                    ).run()
                except* StoreUnavailable:
                    await anyio.sleep(1)  # as a supervisor restarts it

    async def _kill_some(self) -> None:
        while True:
            await anyio.sleep(self.kill_every)
            name = self._rng.choice(sorted(self._scopes))
            schedule, engine, scope = self._scopes.pop(name)
            engine.dead = True
            scope.cancel()
            self._start(schedule)

    async def _delete_ended(self) -> None:
        """Delete requests as soon as they have ended, as the shortest retention would."""
        while True:
            await anyio.sleep(0.5)
            rows = self._table.engine._rows(REQUESTS)
            ended = [key for key, item in rows.items() if _status(item) == RequestStatus.COMPLETED]
            await self._table.engine.delete_many(REQUESTS, ended)


class _CountingEngine(WatchedEngine):
    """Counts how often the request of each tick is stored anew."""

    created: Counter[str]

    def _store(self, table: Table, key: str, item: Item) -> None:
        super()._store(table, key, item)
        if table is REQUESTS and key.startswith(CRON_PREFIX) and self.old_item is None:
            self.created[key] += 1


class _CountingTable(SharedTable):
    def __init__(self, created: Counter[str]) -> None:
        super().__init__(due_index=True)
        self.engine = _CountingEngine()
        self.engine.created = created


def _status(item: Item) -> str:
    return str(item.get("Status", {}).get("S", ""))


def run_cron(seed: int, **options: Any) -> tuple[list[str], Counter[str]]:
    """Run a fleet in virtual time. Return what should not have happened, and what was made."""
    scheduler: Any = trio._core._run
    allowed = scheduler._ALLOW_DETERMINISTIC_SCHEDULING
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True
    scheduler._r.seed(seed)
    clock = MockClock(autojump_threshold=0)

    async def main() -> tuple[list[str], Counter[str]]:
        world = CronWorld(seed=seed, clock=clock, **options)
        return await world.run(), world.created

    try:
        return anyio.run(main, backend="trio", backend_options={"clock": clock})
    finally:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = allowed
