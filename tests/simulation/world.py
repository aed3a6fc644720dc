"""A fleet in virtual time: several workers on one table, with seeded faults."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

import anyio
from anyio.abc import TaskGroup
from trio.testing import MockClock

from simulation import pausing
from simulation.engine import WorkerEngine
from simulation.handlers import end_handler, never
from simulation.judge import Judge, Run
from simulation.keyed_producer import KeyedProducer, ProducerEngine
from simulation.pausing import WORKER
from simulation.schedule import Faults, Job, Schedule
from simulation.troubles import SkewedClock, Troubles
from streamer_store import AsyncRequest, RequestNotPending, StoreUnavailable
from streamer_store.group_commit import GroupCommitEngine
from streamer_store.stores import Stores, stores_over
from streamer_store.transitions import TERMINAL
from streamer_worker import RetryPolicy, handler
from streamer_worker.app import App
from streamer_worker.events import Event, HandlerStuck
from streamer_worker.handlers.registry import registry
from streamer_worker.push.push_thread import push_off
from streamer_worker.settings import (
    HandlerSettings,
    HttpSettings,
    PollSettings,
    ReaperSettings,
    Settings,
)
from streamer_worker.wiring import build_app

RESTART_DELAY = 1.0


class World(Troubles):
    """Runs one schedule."""

    _engine_class = WorkerEngine

    def __init__(self, schedule: Schedule, clock: MockClock) -> None:
        super().__init__(schedule, clock)
        self.rng = random.Random(schedule.seed)
        self.saved: dict[str, list[int]] = {}
        self.violations: list[str] = []
        self.requests: dict[str, AsyncRequest] = {}
        self._apps = 0

    @property
    def actions(self) -> Mapping[str, Mapping[str, Any]]:
        """The actions, and the options of their handlers."""
        return {"job": {}}

    async def run(self) -> list[str]:
        """Run the schedule, and return what should not have happened."""
        async with anyio.create_task_group() as tasks:
            self.tasks = tasks
            self.queue = pausing.install()
            reliable = WorkerEngine(
                "operator", self.table, faults=Faults(), rng=self.rng, background=tasks
            )
            self.operator = self._stores(reliable, self.rng, tasks)
            ids = await self._enqueue()
            producer = self._producer(tasks)
            for _ in range(self.schedule.workers):
                self._start_worker()
            with anyio.move_on_after(self.schedule.trouble_for):
                async with anyio.create_task_group() as troubles:
                    troubles.start_soon(self._make_trouble)
                    troubles.start_soon(producer.run)
                    troubles.start_soon(self._cancel_some, ids)
            self._stop_faults()
            await self._wait_for_requests([*ids, *producer.ids])
            with anyio.move_on_after(self.schedule.patience):
                await self._wait_until(lambda: all(run.ended is not None for run in self.runs))
            tasks.cancel_scope.cancel()
        judge = Judge(journal=self.table.journal, runs=self.runs, engines=self.engines)
        self.requests = await self.operator.requests.get_many(ids)
        judge.check(self.requests, self.schedule)
        keyed = await self.operator.requests.get_many(producer.ids)
        judge.check_keys(keyed.values(), self.table.keys, producer.started)
        return self.violations + judge.violations + self.table.journal.violations

    async def _enqueue(self) -> list[str]:
        stored = (
            await self.operator.requests.enqueue_many(
                AsyncRequest(
                    action=job.action,
                    payload={"job": number},
                    tenant_id=job.tenant,
                    max_retries=job.max_retries,
                    priority=job.priority,
                )
                for number, job in enumerate(self.schedule.jobs)
            )
        ).records
        return [request.request_id for request in stored]

    def _producer(self, tasks: TaskGroup) -> KeyedProducer:
        rng = random.Random(f"keys {self.schedule.seed}")
        faults = self.schedule.faults
        engine = ProducerEngine("producer", self.table, faults=faults, rng=rng, background=tasks)
        return KeyedProducer(engine, schedule=self.schedule, clock=SkewedClock(), rng=rng)

    def _stores(self, engine: WorkerEngine, rng: random.Random, tasks: TaskGroup) -> Stores:
        clock = self.clocks.setdefault(engine.name, SkewedClock())
        grouped = GroupCommitEngine(engine, tasks=tasks, rng=rng)
        return stores_over(
            grouped if self.schedule.batch_writes else engine,
            clock=clock,
            rng=rng,
            report=lambda _: None,
        )

    def _start_worker(self) -> None:
        self._apps += 1
        name = f"w{self._apps}"
        rng = random.Random(self.rng.getrandbits(64))
        faults, old = self.schedule.faults, self.schedule.is_old(self._apps)
        tasks = self.tasks
        engine = self._engine_class(
            name, self.table, faults=faults, rng=rng, background=tasks, old=old
        )
        self.engines.append(engine)
        # The next trouble may hit this worker before its task has run.
        self.clocks[name] = SkewedClock()
        skew, own = self.schedule.skew, random.Random(f"clock {self.schedule.seed} {name}")
        self.clocks[name].skew = timedelta(seconds=own.uniform(-skew, skew))
        self.scopes[name] = anyio.CancelScope()
        self.tasks.start_soon(self._run_worker, engine, rng)

    async def _run_worker(self, engine: WorkerEngine, rng: random.Random) -> None:
        WORKER.set(engine.name)
        with self.scopes[engine.name]:
            while True:
                try:
                    async with anyio.create_task_group() as calls:
                        await self._app(engine, rng, calls).run()
                        calls.cancel_scope.cancel()
                except* StoreUnavailable:  # It is in a group where the worker also crashed.
                    await anyio.sleep(RESTART_DELAY)  # as a supervisor restarts it

    def _app(self, engine: WorkerEngine, rng: random.Random, calls: TaskGroup) -> App:
        settings = Settings(
            concurrency=self.schedule.concurrency,
            poll=PollSettings(max_interval=self.schedule.poll),
            http=HttpSettings(enabled=False),
            reaper=ReaperSettings(enabled=False),
            handler=HandlerSettings(timeout=self.schedule.timeout),
            drain_timeout=5,
        )
        return build_app(
            self._stores(engine, rng, calls),
            settings=settings,
            registry=registry([self._handler(engine, action) for action in self.actions]),
            push=push_off,
            listeners=[self._check_event],
            leave=never,
            clock=self.clocks[engine.name],
            rng=rng,
            cpu=lambda: engine.cpu,
        )

    def _check_event(self, event: Event) -> None:
        """Check that no handler is reported as stuck: all end 2 s after their cancellation."""
        if isinstance(event, HandlerStuck):
            self.violations.append(f"{event.request_id} is reported as stuck")

    def _handler(self, engine: WorkerEngine, action: str) -> Any:
        @handler(action, retry=RetryPolicy(first=1, longest=10), **self.actions[action])
        async def job(payload: dict[str, Any], ctx: Any) -> Any:
            run = Run(
                number=len(self.runs),
                request_id=ctx.request_id,
                worker=engine.name,
                began=anyio.current_time(),
                action=action,
            )
            self._record_start(run)
            self._check_checkpoint(run, ctx.last_checkpoint)
            try:
                return await self._work(run, self.schedule.jobs[payload["job"]], ctx)
            except BaseException:
                run.failed = True
                raise
            finally:
                run.ended = anyio.current_time()

        return job

    def _check_checkpoint(self, run: Run, checkpoint: list[int] | None) -> None:
        """Check that the last checkpoint that a handler saved, or a later one, is there."""
        saved = self.saved.get(run.request_id, [])
        if saved > (checkpoint or []):
            self.violations.append(f"{run.request_id}: saved {saved}, and read {checkpoint}")

    async def _work(self, run: Run, job: Job, ctx: Any) -> Any:
        if job.kills is not None:
            await anyio.sleep(job.kills)
            self._kill(self._engine_of(run))
        if job.starves is not None:
            self._starve(self._engine_of(run), job.starves)
            await anyio.sleep(job.starves)
        steps = 3
        for step in range(steps):
            if job.reports:
                await ctx.progress(step / steps)
                await ctx.checkpoint([run.number, step])
                self.saved[run.request_id] = [run.number, step]
            await anyio.sleep(job.seconds / steps)
        return await self._end(run, job, ctx)

    async def _end(self, run: Run, job: Job, ctx: Any) -> Any:
        return await end_handler(run, job, ctx)

    def _record_start(self, run: Run) -> None:
        # A worker that was paused after its claim may start a request that others have claimed.
        run.stale = self.table.journal.owners[run.request_id][0] != run.worker
        for other in [] if run.stale else self.runs:
            if other.request_id != run.request_id or other.ended is not None or other.torn:
                continue
            if (other.request_id, other.worker) not in self.table.journal.rescued_at:
                self.violations.append(
                    f"{run.worker} runs {run.request_id} while {other.worker}, alive, runs it"
                )
        self.runs.append(run)

    def _engine_of(self, run: Run) -> WorkerEngine:
        return next(engine for engine in self.engines if engine.name == run.worker)

    async def _cancel_some(self, ids: list[str]) -> None:
        for cancel in self.schedule.cancels:
            request_id = ids[cancel.job % len(ids)]
            await anyio.sleep(cancel.after)
            for _ in range(2):  # The second one notifies the worker again, which may have ended.
                with suppress(RequestNotPending):
                    await self.operator.requests.cancel(request_id)
                await anyio.sleep(cancel.again)

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        while True:
            if condition():
                return
            await anyio.sleep(1)

    async def _wait_for_requests(self, ids: list[str]) -> None:
        with anyio.move_on_after(self.schedule.patience):
            while True:
                requests = await self.operator.requests.get_many(ids)
                if all(request.status in TERMINAL for request in requests.values()):
                    return
                await anyio.sleep(5)
