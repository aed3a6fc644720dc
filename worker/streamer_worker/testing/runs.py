"""Runs one attempt of one handler with the worker's own dispatcher and stores in memory."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Final

import anyio

from streamer_store import (
    AsyncRequest,
    Claim,
    Progress,
    Stores,
    SystemClock,
    memory_stores,
)
from streamer_store.versions import cancel_version
from streamer_worker.changes import Changes
from streamer_worker.events import Event, Events, HandlerRaised
from streamer_worker.execution.attempt import Interruption
from streamer_worker.execution.dispatcher import Dispatcher
from streamer_worker.execution.invoker import Invoker
from streamer_worker.execution.lifespans import Lifespans
from streamer_worker.execution.outcome import Outcome
from streamer_worker.execution.processes.pool import Processes
from streamer_worker.execution.settler import Settled, Settler
from streamer_worker.execution.tracebacks import related_exceptions
from streamer_worker.handlers.context import Context
from streamer_worker.handlers.definition import CallNext, Handler, Middleware
from streamer_worker.handlers.registry import registry
from streamer_worker.intake.slots import Assignment, Slots
from streamer_worker.push.announcer import Announcer
from streamer_worker.push.messages import Message, encode
from streamer_worker.runtime import Runtime
from streamer_worker.sanitize import named_message, one_line
from streamer_worker.settings import Settings
from streamer_worker.testing.arguments import Payload, check_lifespan
from streamer_worker.testing.claims import claimed_request
from streamer_worker.testing.recording import Recorded, RecordingChannel

_NO_STATE: Final[Any] = object()
_REPR_CHARS: Final = 500


class HandlerRun(Recorded):
    """One attempt: what the handler did, and what the worker wrote.

    * `status`: completed, failed, retried, snoozed, timeout, released, cancelled, claim_lost or
      unsettled; None while the handler runs.
    * `outcome`: the decision: Complete, Fail, Retry or Release. None if the claim ended before
      it. With the status cancelled or claim_lost the table refused it.
    * `request`: the request. After the end: as it is stored.
    * `error`: the exception that the handler raised, with its traceback; None if it raised none.
    * `progress`: every progress report.
    * `checkpoints`: every checkpoint that was written.
    * `sent`: every message of `ctx.send` and `ctx.broadcast`, as a SentMessage.
    * `pushed`: every message about the request, as a dict. Whether a connection would get it is not
      asked: the request may have none.

    Its repr has the status, the result or the error, and the number of progress reports. Use it on
    the event loop of the test only.
    """

    def __init__(self, claim: Claim, stores: Stores) -> None:
        super().__init__()
        self.request = claim.request
        self.status: str | None = None
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self.pushed: list[dict[str, Any]] = []
        self._claim = claim
        self._stores = stores
        self._changes = Changes()
        self._dispatcher: Dispatcher
        # The dispatcher removes the traceback of `error`, and those of the related exceptions.
        self._tracebacks: list[tuple[BaseException, TracebackType | None]] = []

    @property
    def result(self) -> Mapping[str, Any] | None:
        """The stored result. None until the request is completed."""
        return self.request.result

    def __repr__(self) -> str:
        ending = ""
        if self.result is not None:
            ending = f", result={dict(self.result)}"
        elif self.error is not None or self.request.error is not None:
            code = f"{self.request.error_code}: " if self.request.error_code else ""
            text = self.request.error if self.error is None else named_message(self.error)
            ending = f", {code}{text}"
        summary = one_line(f"{self.status or 'running'}{ending}", _REPR_CHARS)
        reports = "1 report" if len(self.progress) == 1 else f"{len(self.progress)} reports"
        return f"<HandlerRun of {self.request.action!r}: {summary}; {reports} of progress>"

    async def until(self, condition: Callable[[HandlerRun], bool]) -> None:
        """Wait until `condition(run)` is true, for example `lambda run: len(run.progress) == 2`.

        The condition is checked at once, after each progress report, checkpoint and message, and at
        the end. Raises AssertionError when the handler has ended and the condition is false.
        """
        while not condition(self):
            if self.status is not None:
                raise AssertionError(
                    f"the handler has ended ({self.status}) before the condition was true"
                )
            await self._changes.wait()

    async def cancel(self) -> None:
        """Cancel the request, as an operator does. The handler is cancelled."""
        await self._stores.requests.cancel(self.request.request_id)
        self._dispatcher.cancel(frozenset({cancel_version(self._claim.version)}))

    def drain(self) -> None:
        """Begin to stop the worker: `ctx.draining` is true from now on."""
        self._dispatcher.drain()

    def release(self) -> None:
        """Stop the worker: the handler is cancelled and the request is released, to run again."""
        self._dispatcher.interrupt_all(Interruption.RELEASED)

    def time_out(self) -> None:
        """Reach the handler's timeout: the handler is cancelled."""
        self._dispatcher.interrupt_all(Interruption.TIMEOUT)

    async def _run(self, dispatcher: Dispatcher, slots: Slots) -> None:
        request_id = self.request.request_id
        async with anyio.create_task_group() as tasks:
            assignment = Assignment(self._claim, slots.take(request_id))
            status = await dispatcher.run_one(assignment, tasks)
        self.request = await self._stores.requests.get(request_id)
        self.status = status
        for error, traceback in self._tracebacks:
            error.__traceback__ = traceback
        self._changes.notify()

    def _on_event(self, event: Event) -> None:
        if isinstance(event, HandlerRaised):
            self.error = event.error
            self._tracebacks = [
                (error, error.__traceback__) for error in related_exceptions(event.error)
            ]

    def _push(self, message: Message) -> None:
        self.pushed.append(json.loads(encode(message)))

    async def _record(self, call_next: CallNext, request: AsyncRequest, ctx: Context[Any]) -> Any:
        channel = RecordingChannel(
            ctx.channel,
            self,
            read_checkpoint=self._stored_checkpoint,
            on_change=self._changes.notify,
        )
        return await call_next(request, replace(ctx, channel=channel))

    async def _stored_checkpoint(self) -> Any:
        return (await self._stores.requests.get(self.request.request_id)).checkpoint


async def run_handler(
    handler: Handler, payload: Payload | None = None, **options: Any
) -> HandlerRun:
    """Run one attempt of a handler to its end, and return what it did.

    `options` are those of `start_handler`. What the handler raises is not raised here: it is
    in `error`, and its outcome in `status` and `outcome`. Raises HandlerLoadError for a handler
    with faults, TypeError when the handler's group has a lifespan and the test passes neither
    `state` nor `enter_lifespan`, and LifespanError, inside an ExceptionGroup, when the lifespan
    fails.

    >>> import anyio
    >>> from streamer_worker import Context, handler
    >>> @handler("double")
    ... async def double(payload: dict[str, int], ctx: Context) -> int:
    ...     return payload["n"] * 2
    >>> run = anyio.run(run_handler, double, {"n": 21})
    >>> run.status, run.result
    ('completed', {'data': 42})
    """
    async with start_handler(handler, payload, **options) as run:
        pass
    return run


@asynccontextmanager
async def start_handler(
    handler: Handler,
    payload: Payload | None = None,
    *,
    attempt: int = 1,
    state: Any = _NO_STATE,
    enter_lifespan: bool = False,
    middleware: Iterable[Middleware] = (),
    seed: int = 0,
    **request: Any,
) -> AsyncIterator[HandlerRun]:
    """Start one attempt of a handler, and give its HandlerRun. The end of the context waits for
    the end of the attempt.

    * `attempt`: the number of the attempt, from 1.
    * `payload`: a mapping, a model or a dataclass.
    * `state`: used as `ctx.state`. Required if the handler's group has a lifespan, unless
      `enter_lifespan` is true.
    * `enter_lifespan`: whether the lifespan of the handler's group is entered, as the worker does.
      It may open a real database.
    * `middleware`: the worker's middleware. The middleware of the group is used in any case.
    * `seed`: of the random generator that the delay of a retry is drawn from.
    * `request`: fields of the AsyncRequest, for example `checkpoint` (of an earlier attempt),
      `connection_id`, `tenant_id` or `max_retries` (3 unless given).

    Raises what `run_handler` raises.
    """
    registered = registry([handler], middleware)
    check_lifespan(handler, has_state=state is not _NO_STATE, enter_lifespan=enter_lifespan)
    rng = random.Random(seed)  # noqa: S311  a test is repeatable
    clock = SystemClock()
    stores = memory_stores(clock=clock, rng=rng)
    run = HandlerRun(await claimed_request(stores, handler, payload, attempt, request), stores)
    events = Events(run._on_event)
    runtime = Runtime(clock=clock, rng=rng, events=events)
    announcer = Announcer(push=run._push, clock=clock)
    settings = Settings()
    rules = settings.handler
    slots = Slots(1, events=events)
    async with (
        Processes(limit=1, log=None, events=events, grace=rules.cancel_grace / 2) as processes,
        _states(handler, state, events) as states,
    ):
        run._dispatcher = Dispatcher(
            registry={
                action: replace(
                    registered_handler, middleware=(run._record, *registered_handler.middleware)
                )
                for action, registered_handler in registered.items()
            },
            requests=stores.requests,
            settler=_RecordingSettler(
                run, requests=stores.requests, announcer=announcer, runtime=runtime
            ),
            slots=slots,
            invoker=Invoker(
                threads=anyio.CapacityLimiter(rules.threads),
                processes=processes,
                states=states,
            ),
            announcer=announcer,
            settings=settings,
            runtime=runtime,
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run._run, run._dispatcher, slots)
            yield run


@asynccontextmanager
async def _states(handler: Handler, state: Any, events: Events) -> AsyncIterator[Mapping[Any, Any]]:
    if state is not _NO_STATE:
        yield {handler.group: state}
        return
    lifespans = Lifespans(on_failed=_ignore, abandon=_ignore, events=events)
    async with lifespans.open([handler], unless=anyio.Event()) as states:
        yield states or {}


def _ignore() -> None:
    pass


class _RecordingSettler(Settler):
    """A Settler that stores each written outcome in the HandlerRun."""

    def __init__(self, run: HandlerRun, **parameters: Any) -> None:
        super().__init__(**parameters)
        self._run = run

    async def settle(
        self, claim: Claim, outcome: Outcome, progress: Progress | None = None
    ) -> Settled:
        settled = await super().settle(claim, outcome, progress)
        self._run.outcome = settled.outcome
        return settled
