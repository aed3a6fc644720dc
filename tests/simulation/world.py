"""A fleet in virtual time: several workers, one table, seeded faults, and what must hold."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import anyio
import trio
from trio.testing import MockClock

from simulation import pausing
from simulation.engine import SharedTable, WorkerEngine
from simulation.pausing import WORKER
from simulation.schedule import Faults, Job, Kind, Schedule, Trouble
from streamer_store import AsyncRequest, RequestNotPending, RequestStatus, StoreUnavailable
from streamer_store.stores import Stores, stores_over
from streamer_store.transitions import TERMINAL
from streamer_worker import RetryLater, RetryPolicy, handler
from streamer_worker.app import App
from streamer_worker.events import Events
from streamer_worker.handlers.registry import registry
from streamer_worker.health import Health
from streamer_worker.life import Parts
from streamer_worker.metrics import Metrics
from streamer_worker.pulse import pulse_here
from streamer_worker.settings import (
    HandlerSettings,
    HttpSettings,
    PollSettings,
    ReaperSettings,
    Settings,
)
from unit.worker.harness import LoopClock

TROUBLE = 90.0
PATIENCE = 2 * 3600.0


@dataclass(kw_only=True)
class Run:
    """One call of a handler. `torn`: its worker crashed meanwhile, or it ignored its
    cancellation.
    """

    number: int
    request_id: str
    worker: str
    began: float
    ended: float | None = None
    torn: bool = False


class SkewedClock(LoopClock):
    """A worker's clock, whose wall time may jump."""

    skew = timedelta()

    def now(self) -> datetime:
        return super().now() + self.skew


class World:
    def __init__(self, schedule: Schedule, clock: MockClock) -> None:
        self.schedule = schedule
        self.rng = random.Random(schedule.seed)
        self.table = SharedTable()
        self.runs: list[Run] = []
        self.engines: list[WorkerEngine] = []
        self.scopes: dict[str, anyio.CancelScope] = {}
        self.clocks: dict[str, SkewedClock] = {}
        self.violations: list[str] = []
        self._clock = clock
        self._apps = 0

    async def run(self) -> list[str]:
        """Run the schedule, and return what should not have been."""
        async with anyio.create_task_group() as tasks:
            self.tasks = tasks
            self.queue = pausing.install()
            clean = WorkerEngine("operator", self.table, faults=Faults(), rng=self.rng, later=tasks)
            self.operator = self._stores(clean, self.rng)
            ids = await self._enqueue()
            for _ in range(self.schedule.workers):
                self._start()
            with anyio.move_on_after(TROUBLE):
                async with anyio.create_task_group() as troubles:
                    troubles.start_soon(self._trouble)
                    troubles.start_soon(self._cancel_some, ids)
            self._calm()
            await self._finish(ids)
            with anyio.move_on_after(PATIENCE):
                await self._until(lambda: all(run.ended is not None for run in self.runs))
            tasks.cancel_scope.cancel()
        self._judge(await self.operator.requests.get_many(ids))
        return self.violations + self.table.journal.violations

    async def _enqueue(self) -> list[str]:
        stored = await self.operator.requests.enqueue_many(
            AsyncRequest(
                action="job",
                payload={"job": number},
                tenant_id=job.tenant,
                max_retries=job.max_retries,
            )
            for number, job in enumerate(self.schedule.jobs)
        )
        return [each.request_id for each in stored]

    def _stores(self, engine: WorkerEngine, rng: random.Random) -> Stores:
        clock = self.clocks.setdefault(engine.name, SkewedClock())
        return stores_over(engine, clock=clock, rng=rng, report=lambda _: None)

    def _start(self) -> None:
        self._apps += 1
        name = f"w{self._apps}"
        rng = random.Random(self.rng.getrandbits(64))
        engine = WorkerEngine(
            name, self.table, faults=self.schedule.faults, rng=rng, later=self.tasks
        )
        self.engines.append(engine)
        self.tasks.start_soon(self._live, engine, rng)

    async def _live(self, engine: WorkerEngine, rng: random.Random) -> None:
        WORKER.set(engine.name)
        with anyio.CancelScope() as scope:
            self.scopes[engine.name] = scope
            while True:
                stores = self._stores(engine, rng)
                clock = self.clocks[engine.name]
                settings = Settings(
                    concurrency=4,
                    poll=PollSettings(slowest=2),
                    http=HttpSettings(enabled=False),
                    reaper=ReaperSettings(enabled=False),
                    handler=HandlerSettings(timeout=60),
                    drain_timeout=5,
                )
                handlers = registry([self._handler(engine)])
                health = Health(settings=settings, clock=clock)
                events = Events(health)
                pulse = pulse_here(
                    workers=stores.workers,
                    settings=settings.presence,
                    events=events,
                    clock=clock,
                    rng=rng,
                )
                parts = Parts(
                    settings=settings,
                    stores=stores,
                    registry=handlers,
                    pulse=pulse,
                    events=events,
                    clock=clock,
                    rng=rng,
                )
                app = App(parts, metrics=Metrics(actions=handlers), health=health, leave=_never)
                try:
                    await app.run()
                except StoreUnavailable:
                    await anyio.sleep(1)  # as a supervisor would

    def _handler(self, engine: WorkerEngine) -> Any:
        @handler("job", retry=RetryPolicy(first=1, longest=10))
        async def job(payload: dict[str, Any], ctx: Any) -> Any:
            run = Run(
                number=len(self.runs),
                request_id=ctx.request_id,
                worker=engine.name,
                began=anyio.current_time(),
            )
            self._note_start(run)
            try:
                return await _work(run, self.schedule.jobs[payload["job"]], ctx)
            finally:
                run.ended = anyio.current_time()

        return job

    def _note_start(self, run: Run) -> None:
        for other in self.runs:
            if other.request_id != run.request_id or other.ended is not None or other.torn:
                continue
            if (other.request_id, other.worker) not in self.table.journal.taken:
                self.violations.append(
                    f"{run.worker} runs {run.request_id} while {other.worker}, not dead, does"
                )
        self.runs.append(run)

    async def _trouble(self) -> None:
        for trouble in self.schedule.troubles:
            await anyio.sleep(trouble.after)
            match trouble.kind:
                case Kind.CRASH:
                    self._crash(trouble)
                case Kind.PAUSE:
                    await self._pause(trouble)
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
        living = [each for each in self.engines if not each.dead]
        return living[trouble.victim % len(living)]

    def _crash(self, trouble: Trouble) -> None:
        engine = self._victim(trouble)
        engine.dead = True
        for run in self.runs:
            if run.worker == engine.name and run.ended is None:
                run.torn = True
        self.scopes[engine.name].cancel()
        self._start()

    async def _pause(self, trouble: Trouble) -> None:
        engine = self._victim(trouble)
        self.queue.paused.add(engine.name)
        began = anyio.current_time()
        try:
            await anyio.sleep(trouble.seconds)
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
        self.table.journal.blind(began, trouble.seconds)
        self._clock.jump(trouble.seconds)
        for engine in self.engines:
            engine.disturbed.append((began, anyio.current_time()))

    async def _outage(self, trouble: Trouble) -> None:
        self.table.journal.blind(anyio.current_time(), trouble.seconds)
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
            self.table.journal.sees(anyio.current_time())

    async def _cancel_some(self, ids: list[str]) -> None:
        for cancel in self.schedule.cancels:
            request_id = ids[cancel.job % len(ids)]
            await anyio.sleep(cancel.after)
            for _ in range(2):  # the second one tells the worker again, which may be gone
                with suppress(RequestNotPending):
                    await self.operator.requests.cancel(request_id)
                await anyio.sleep(cancel.again)

    def _calm(self) -> None:
        for engine in self.engines:
            engine.cut = False
            engine.faults = Faults()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while True:
            if condition():
                return
            await anyio.sleep(1)

    async def _finish(self, ids: list[str]) -> None:
        with anyio.move_on_after(PATIENCE):
            while True:
                found = await self.operator.requests.get_many(ids)
                if all(each.status in TERMINAL for each in found.values()):
                    return
                await anyio.sleep(5)

    def _judge(self, found: dict[str, AsyncRequest]) -> None:
        self._judge_ends()
        starts: dict[str, int] = defaultdict(int)
        for run in self.runs:
            starts[run.request_id] += 1
        for request_id, request in found.items():
            if request.status not in TERMINAL:
                self.violations.append(f"{request_id} is {request.status} for ever")
            most = request.max_retries + 1 + self.table.journal.uncounted.get(request_id, 0)
            if starts[request_id] > most:
                self.violations.append(f"{request_id}: {starts[request_id]} attempts of {most}")
            if request.status is RequestStatus.COMPLETED:
                self._judge_result(request)

    def _judge_ends(self) -> None:
        """A handler that has lost its request ends soon after its worker can know."""
        journal, faults = self.table.journal, self.schedule.faults
        soon = 20 + 200 * (faults.before + faults.late)
        engines = {each.name: each for each in self.engines}
        for run in self.runs:
            engine = engines[run.worker]
            lost = journal.taken.get((run.request_id, run.worker))
            lost = journal.cancelled.get(run.request_id) if lost is None else lost
            if lost is None or run.ended is None or run.began > lost or engine.dead:
                continue
            since = lost
            quiet = 0.0
            for start, end in [*sorted(engine.disturbed), (run.ended, run.ended)]:
                quiet = max(quiet, min(start, run.ended) - since)
                since = max(since, end)
            if quiet > soon:
                self.violations.append(f"{run.worker} ran {run.request_id} long after losing it")

    def _judge_result(self, request: AsyncRequest) -> None:
        assert request.result is not None
        run = self.runs[request.result["run"]]
        owner, _ = self.table.journal.owners[request.request_id]
        if (run.request_id, run.worker) != (request.request_id, owner):
            self.violations.append(
                f"{request.request_id} has a result of {run.worker}, {owner} settled it"
            )


async def _work(run: Run, job: Job, ctx: Any) -> Any:
    steps = 3
    for step in range(steps):
        if job.reports:
            await ctx.progress(step / steps)
        await anyio.sleep(job.seconds / steps)
    if job.raises:
        raise ValueError("it does not work")
    if job.snoozes and ctx.attempt == 1 and run.number % 2:
        raise RetryLater(after=3)
    if job.lingers:
        run.torn = True
        with anyio.CancelScope(shield=True):
            await anyio.sleep(2)
    return {"run": run.number}


def _never() -> None:
    raise AssertionError("no handler of the simulation runs on for ever")


def simulate(schedule: Schedule) -> list[str]:
    """Run one schedule in virtual time, the same way for the same seed."""
    return _run(schedule)[0]


def story(schedule: Schedule) -> list[Run]:
    """Run one schedule and return every call of a handler."""
    return _run(schedule)[1]


def _run(schedule: Schedule) -> tuple[list[str], list[Run]]:
    scheduler: Any = trio._core._run
    allowed = scheduler._ALLOW_DETERMINISTIC_SCHEDULING
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True
    scheduler._r.seed(schedule.seed)
    clock = MockClock(autojump_threshold=0)

    async def main() -> tuple[list[str], list[Run]]:
        world = World(schedule, clock)
        return await world.run(), world.runs

    try:
        return anyio.run(main, backend="trio", backend_options={"clock": clock})
    finally:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = allowed
