"""One attempt of one handler, through the worker's own dispatcher, on stores in memory."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import anyio

from streamer_store import (
    AsyncRequest,
    Claim,
    Progress,
    RequestStatus,
    Stores,
    SystemClock,
    memory_stores,
)
from streamer_store.versions import cancel_version
from streamer_worker.events import Event, Events, HandlerRaised
from streamer_worker.execution.attempt import Interruption
from streamer_worker.execution.dispatcher import Dispatcher
from streamer_worker.execution.invoker import Caller
from streamer_worker.execution.lifespans import Lifespans
from streamer_worker.execution.outcome import Outcome
from streamer_worker.execution.processes.pool import Processes
from streamer_worker.execution.settler import Settler
from streamer_worker.handlers.context import Context, ProgressUpdate, WorkerChannel
from streamer_worker.handlers.definition import CallNext, Handler, Middleware
from streamer_worker.handlers.registry import registry
from streamer_worker.intake.slots import Assignment, Slots
from streamer_worker.push.announcer import Announcer
from streamer_worker.push.messages import Message, encode
from streamer_worker.settings import HandlerSettings, RescueSettings

_LIFESPAN: Final[Any] = object()
_REQUEST_ID: Final = "request-1"


class HandlerRun:
    """What an attempt did, and what became of it.

    `became` is completed, failed, retried, snoozed, timeout, released, cancelled, claim_lost or
    unsettled, and None while it runs; `outcome` is what was decided and written, None where
    nothing was; `request` is the request as the table has it. `progress` has every report,
    `checkpoints` every checkpoint that was written, `pushed` the messages for the connections
    that wait, and `error` is what the handler raised.
    """

    def __init__(self, claim: Claim, stores: Stores) -> None:
        self.request = claim.request
        self.status: str | None = None
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self.progress: list[Progress] = []
        self.checkpoints: list[Any] = []
        self.pushed: list[dict[str, Any]] = []
        self._claim = claim
        self._stores = stores
        self._changed = anyio.Event()
        self._dispatcher: Dispatcher

    @property
    def result(self) -> Mapping[str, Any] | None:
        """What is stored as the request's result."""
        return self.request.result

    async def until(self, holds: Callable[[HandlerRun], bool]) -> None:
        """Wait until that holds, for example `lambda run: len(run.progress) == 2`.

        It is asked after each report and checkpoint, and at the end. Raises AssertionError when
        the handler has ended without it.
        """
        while not holds(self):
            if self.status is not None:
                raise AssertionError(f"the handler has ended ({self.status}) before that held")
            await self._changed.wait()

    async def cancel(self) -> None:
        """Cancel the request, as an operator does."""
        await self._stores.requests.cancel(self.request.request_id)
        self._dispatcher.cancel(frozenset({cancel_version(self._claim.version)}))

    def drain(self) -> None:
        """Let the worker begin to stop: `ctx.draining` is true from now on."""
        self._dispatcher.drain()

    def release(self) -> None:
        """Let the time of a stopping worker be over: the request goes back, to run elsewhere."""
        self._dispatcher.end(Interruption.RELEASED)

    def time_out(self) -> None:
        """Let the handler's time be over."""
        self._dispatcher.end(Interruption.TIMEOUT)

    async def _run(self, dispatcher: Dispatcher, slots: Slots) -> None:
        request_id = self.request.request_id
        async with anyio.create_task_group() as tasks:
            assignment = Assignment(self._claim, slots.take(request_id))
            became = await dispatcher.run_one(assignment, tasks)
        self.request = await self._stores.requests.get(request_id)
        self.status = became
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    def _heard(self, event: Event) -> None:
        if isinstance(event, HandlerRaised):
            self.error = event.error

    def _push(self, message: Message) -> None:
        self.pushed.append(json.loads(encode(message)))

    async def _note(self, call_next: CallNext, request: AsyncRequest, ctx: Context[Any]) -> Any:
        return await call_next(request, replace(ctx, link=_NotingLink(ctx.link, self)))


async def run_handler(
    handler: Handler, payload: Mapping[str, Any] | None = None, **given: Any
) -> HandlerRun:
    """Run one attempt to its end; `given` is what `start_handler` takes."""
    async with start_handler(handler, payload, **given) as run:
        pass
    return run


@asynccontextmanager
async def start_handler(
    handler: Handler,
    payload: Mapping[str, Any] | None = None,
    *,
    attempt: int = 1,
    state: Any = _LIFESPAN,
    middleware: Iterable[Middleware] = (),
    seed: int = 0,
    **request: Any,
) -> AsyncIterator[HandlerRun]:
    """Start one attempt and give it; leaving the context waits for its end.

    `request` are fields of the AsyncRequest: `checkpoint`, as an earlier attempt has left it,
    `connection_id`, `tenant_id`, `max_retries` and so on. `state` stands in for what the
    lifespan of the handler's group gives; without it the lifespan is entered. `middleware` is
    the worker's; the group's is there anyway. The delay of a retry is drawn from `seed`.
    """
    registered = registry([handler], middleware)
    clock, rng = SystemClock(), random.Random(seed)  # noqa: S311  a test shall repeat itself
    stores = memory_stores(clock=clock, rng=rng)
    run = HandlerRun(await _claimed(stores, handler, payload, attempt, request), stores)
    events = Events(run._heard)
    announcer = Announcer(push=run._push, clock=clock)
    settings = HandlerSettings()
    slots = Slots(1, events=events)
    async with (
        Processes(limit=1, log=None, events=events, grace=settings.cancel_grace / 2) as processes,
        _states(handler, state, events) as states,
    ):
        run._dispatcher = Dispatcher(
            registry={
                action: replace(each, middleware=(run._note, *each.middleware))
                for action, each in registered.items()
            },
            requests=stores.requests,
            settler=_NotingSettler(
                run, requests=stores.requests, announcer=announcer, events=events, rng=rng
            ),
            slots=slots,
            caller=Caller(
                threads=anyio.CapacityLimiter(settings.threads), processes=processes, states=states
            ),
            announcer=announcer,
            settings=settings,
            max_rescues=RescueSettings().max_rescues,
            events=events,
            clock=clock,
            rng=rng,
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run._run, run._dispatcher, slots)
            yield run


async def _claimed(
    stores: Stores,
    handler: Handler,
    payload: Mapping[str, Any] | None,
    attempt: int,
    fields: Mapping[str, Any],
) -> Claim:
    given: dict[str, Any] = {
        "request_id": _REQUEST_ID,
        "connection_id": "connection-1",
        "max_retries": 3,
    }
    request = AsyncRequest(
        action=handler.action,
        payload=dict(payload or {}),
        retry_count=attempt - 1,
        **given | dict(fields),
    )
    await stores.requests.enqueue(request)
    page = await stores.requests.entries(RequestStatus.PENDING, limit=1)
    return await stores.requests.claim(page.candidates[0], worker_id="worker-1")


@asynccontextmanager
async def _states(handler: Handler, given: Any, events: Events) -> AsyncIterator[Mapping[Any, Any]]:
    if given is not _LIFESPAN:
        yield {handler.group: given}
        return
    lifespans = Lifespans(on_failed=_nothing, abandon=_nothing, events=events)
    async with lifespans.open([handler], unless=anyio.Event()) as states:
        yield states or {}


def _nothing() -> None:
    pass


class _NotingSettler(Settler):
    def __init__(self, run: HandlerRun, **parts: Any) -> None:
        super().__init__(**parts)
        self._run = run

    async def settle(
        self, claim: Claim, outcome: Outcome, progress: Progress | None = None
    ) -> tuple[str, Outcome]:
        became, self._run.outcome = await super().settle(claim, outcome, progress)
        return became, self._run.outcome


class _NotingLink:
    """A Link that notes what goes through it."""

    def __init__(self, link: WorkerChannel, run: HandlerRun) -> None:
        self._link = link
        self._run = run

    @property
    def draining(self) -> bool:
        return self._link.draining

    @property
    def cancelled(self) -> bool:
        return self._link.cancelled

    async def progress(self, told: ProgressUpdate) -> None:
        await self._link.progress(told)
        self._note(told)
        self._run._tell()

    async def checkpoint(self, value: Any) -> None:
        await self._link.checkpoint(value)
        stored = await self._run._stores.requests.get(self._run.request.request_id)
        self._run.checkpoints.append(stored.checkpoint)
        self._run._tell()

    def report(self, told: ProgressUpdate) -> bool:
        self._link.report(told)
        self._note(told)
        return True

    def notify(self) -> None:
        self._link.notify()
        self._run._tell()

    def _note(self, told: ProgressUpdate) -> None:
        details = None if told.details is None else dict(told.details)
        self._run.progress.append(Progress(told.fraction, told.message, details))
