"""Benches: a dispatcher or a poller over stores, with its slots and streams."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream

from streamer_store import Claim, WorkerRow
from streamer_store.errors import ungrouped
from streamer_store.rate_limits import PermitTable
from streamer_worker import Context, Handler, RetryPolicy, handler
from streamer_worker.concurrency.request_tasks import RequestTasks
from streamer_worker.execution.dispatcher import Dispatcher
from streamer_worker.execution.invoker import Invoker
from streamer_worker.execution.processes.pool import Processes
from streamer_worker.execution.settler import Settler
from streamer_worker.fleet.membership import Membership
from streamer_worker.fleet.pauses import KnownPauses
from streamer_worker.fleet.server_clock import ServerClock
from streamer_worker.fleet.view import FleetView
from streamer_worker.handlers.registry import registry
from streamer_worker.intake.claimer import Claimer
from streamer_worker.intake.eligibility import Eligibility
from streamer_worker.intake.fleet_limits import FleetLimits
from streamer_worker.intake.limits import Limits
from streamer_worker.intake.pause_gate import PauseGate
from streamer_worker.intake.poller import PollCounts, Poller
from streamer_worker.intake.probation import Probation
from streamer_worker.intake.rate_limits import RateLimits
from streamer_worker.intake.seen import SeenRequests
from streamer_worker.intake.slots import Assignment, ClaimCall, Slots
from streamer_worker.push.announcer import Announcer
from streamer_worker.settings import (
    HandlerSettings,
    PollSettings,
    PresenceSettings,
    RescueSettings,
    Settings,
)
from support import START, ManualClock
from unit.worker.harness import World, echo

MIN_AGE = 45.0


def announcer(world: World) -> Announcer:
    return Announcer(push=world.pushed.append, clock=world.clock)


def settler(world: World) -> Settler:
    return Settler(
        requests=world.stores.requests,
        announcer=announcer(world),
        runtime=world.runtime,
    )


def membership(view: FleetView | None = None) -> Membership:
    """Make the membership of `me`, whose lease is safe unless a heartbeat was infinitely long ago.

    view: a fleet of which nothing is known, unless given.
    """
    row = WorkerRow(worker_id="me", started_at=START)
    made = Membership(row, lease=math.inf, clock=ManualClock())
    made.on_fleet_view(view or FleetView(worker_id="me"))
    return made


def pause_gate(world: World, known: KnownPauses, *handlers: Handler) -> PauseGate:
    return PauseGate(
        worker_id="me",
        known=known,
        pauses=world.stores.pauses,
        registry=registry(handlers),
        runtime=world.runtime,
    )


class DispatchBench:
    """A dispatcher over stores, and its slots."""

    def __init__(self, world: World, *handlers: Handler) -> None:
        self.world = world
        self.slots = Slots(10, events=world.events)
        self.dispatcher = Dispatcher(
            registry=registry(handlers),
            requests=world.stores.requests,
            settler=settler(world),
            slots=self.slots,
            invoker=Invoker(
                threads=anyio.CapacityLimiter(HandlerSettings().threads),
                processes=Processes(limit=1, log=None, events=world.events, grace=1.0),
                states={},
            ),
            announcer=announcer(world),
            settings=Settings(rescue=RescueSettings(max_rescues=5)),
            runtime=world.runtime,
        )

    def assigned(self, claim: Claim) -> Assignment:
        """Take a slot for the claim, as the poller does."""
        return Assignment(claim, self.slots.take(claim.request_id))

    def start(self, tasks: RequestTasks, claim: Claim) -> None:
        """Run the claim in a task of the dispatcher's own, as if it had just been won."""
        assignment = self.assigned(claim)

        async def won() -> Assignment:
            return assignment

        self.dispatcher.start(tasks, won)

    async def run(self, claim: Claim) -> str:
        """Run the claim in a task of its own and on a slot, as the dispatcher does."""
        outcomes: list[str] = []

        async def run_one(tasks: TaskGroup) -> None:
            outcomes.append(await self.dispatcher.run_one(self.assigned(claim), tasks))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_one, tasks)
        assert self.slots.used == 0
        return outcomes[0]


class Raising:
    """A handler that raises the given errors, one at each call, and then returns."""

    def __init__(self, *errors: BaseException, retry: RetryPolicy | None = None) -> None:
        self.contexts: list[Context] = []
        self.called: list[float] = []
        self._errors = list(errors)
        self.handler: Handler = handler("work", retry=retry)(self._run)

    async def _run(self, _payload: dict[str, Any], ctx: Context) -> str:
        self.contexts.append(ctx)
        self.called.append(anyio.current_time())
        if self._errors:
            raise self._errors.pop(0)
        return "done"

    @property
    def attempts(self) -> list[int]:
        return [context.attempt for context in self.contexts]


def rate_limits(world: World, *handlers: Handler, slots: Slots) -> RateLimits:
    """Return the permits of a worker, of which none are asked for before `step`."""
    return RateLimits(
        registry=registry(handlers),
        permits=PermitTable(engine=world.stores.engine),
        freed=slots.freed,
        server_clock=ServerClock(world.clock),
        runtime=world.runtime,
    )


class _Poller(Poller):
    """A poller whose claims run in tasks of its step."""

    tasks: TaskGroup

    async def step(self) -> PollCounts:
        with ungrouped():
            async with anyio.create_task_group() as self.tasks:
                return await super().step()
        raise AssertionError


class PollBench:
    """A poller, and the claims that it won."""

    def __init__(self, world: World, *handlers: Handler, slots: int = 10, **settings: Any) -> None:
        handlers = handlers or (echo,)
        self.membership = membership()
        self.world = world
        self.slots = Slots(slots, events=world.events)
        send, self.receive = anyio.create_memory_object_stream[Assignment](math.inf)
        self.send = send
        seen_requests = SeenRequests(clock=world.clock)
        self.probation = Probation(free_from=MIN_AGE, clock=world.clock)
        self.pauses = KnownPauses(runtime=world.runtime)
        self.gate = pause_gate(world, self.pauses, *handlers)
        self.rate_limits = rate_limits(world, *handlers, slots=self.slots)
        self.claimer = Claimer(
            worker_id="me",
            requests=world.stores.requests,
            slots=self.slots,
            seen_requests=seen_requests,
            probation=self.probation,
            gate=self.gate,
            rate_limits=self.rate_limits,
            announcer=announcer(world),
            runtime=world.runtime,
        )
        poll = PollSettings(min_interval=0.05, max_interval=0.5)
        self.poller = _Poller(
            requests=world.stores.requests,
            claimer=self.claimer,
            start=lambda claim: self.poller.tasks.start_soon(self._claim, claim),
            seen_requests=seen_requests,
            eligibility=Eligibility(
                seen_requests=seen_requests,
                slots=self.slots,
                limits=Limits(
                    registry=registry(handlers),
                    slots=self.slots,
                    probation=self.probation,
                    gate=self.gate,
                    rate_limits=self.rate_limits,
                    fleet_limits=FleetLimits(
                        registry=registry(handlers),
                        slots=self.slots,
                        heartbeat=PresenceSettings().heartbeat,
                        clock=world.clock,
                    ),
                    settings=Settings(**settings),
                ),
                gate=self.gate,
                membership=self.membership,
                settings=poll,
                runtime=world.runtime,
            ),
            slots=self.slots,
            membership=self.membership,
            settings=poll,
            runtime=world.runtime,
        )

    @property
    def fleet(self) -> FleetView:
        """What this worker sees of the fleet."""
        return self.membership.view

    @fleet.setter
    def fleet(self, view: FleetView) -> None:
        self.membership.on_fleet_view(view)

    async def _claim(self, claim: ClaimCall) -> None:
        assignment = await claim()
        if assignment is not None:
            self.send.send_nowait(assignment)

    def assignments(self) -> list[Assignment]:
        return list(drained(self.receive))

    def handed_over(self) -> list[str]:
        return [assignment.claim.request_id for assignment in self.assignments()]

    def close(self) -> None:
        self.send.close()
        self.receive.close()

    async def poll(self) -> list[str]:
        """Make one step, release all slots, and return the ids of the claimed requests."""
        await self.poller.step()
        assignments = self.assignments()
        for assignment in assignments:
            self.slots.release(assignment.slot)
        return [assignment.claim.request_id for assignment in assignments]


def drained(receive: MemoryObjectReceiveStream[Assignment]) -> Iterator[Assignment]:
    while receive.statistics().current_buffer_used:
        yield receive.receive_nowait()


async def enqueue(world: World, times: int, **fields: Any) -> list[str]:
    """Enqueue requests, each a second older than the next; return their ids, oldest first."""
    now = world.clock.now()
    requests = [
        await world.enqueue(created_at=now - timedelta(seconds=times - number), **fields)
        for number in range(times)
    ]
    return [request.request_id for request in requests]
