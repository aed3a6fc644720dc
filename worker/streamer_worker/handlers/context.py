"""The context that a handler gets with its payload."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

import structlog
from anyio.lowlevel import checkpoint as yield_to_loop
from typing_extensions import TypeVar as DefaultedTypeVar

from streamer_store import ValidationError
from streamer_worker.handlers.client_message import to_connection, to_connections_of
from streamer_worker.handlers.progress_arguments import (
    fraction_of,
    total_of,
    track_arguments,
)
from streamer_worker.handlers.worker_channel import (
    ProgressUpdate,
    SyncWorkerChannel,
    WorkerChannel,
)
from streamer_worker.own_logger import get_logger

State = DefaultedTypeVar("State", default=Any)
Item = TypeVar("Item")


class CheckpointInvalid(ValidationError):
    """DynamoDB cannot hold the value of a checkpoint."""


class HandlerCancelled(BaseException):
    """Raised by the methods of a SyncContext when the handler must end.

    Do not catch it, except to clean up, and raise it again. It is no Exception, so
    `except Exception` lets it pass.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptInfo:
    """What is known of an attempt when it begins. The values can be pickled.

    * `request_id`: the id of the request. Delivery is at least once, so use it as the
      idempotency key of what the handler does elsewhere.
    * `action`: the action of the request.
    * `attempt`: the number of this attempt, from 1.
    * `max_retries`: how many attempts may follow the first.
    * `deadline`: when the attempt is cancelled as too long, in UTC.
    * `connection_id`, `user_id`, `tenant_id`: of the producer; None if it gave none.
    * `created_at`: when the request was created, in UTC.
    * `metadata`: the payload's `_metadata`, which the router sets; empty if there is none.
    * `last_checkpoint`: the value that an earlier attempt gave to `checkpoint`; None if there
      is none.
    """

    request_id: str
    action: str
    attempt: int
    max_retries: int
    deadline: datetime
    connection_id: str | None = None
    user_id: str | None = None
    tenant_id: str | None = None
    created_at: datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)
    last_checkpoint: Any = field(default=None, repr=False)

    @property
    def log(self) -> structlog.stdlib.BoundLogger:
        """A structlog logger whose lines have the request id, the action and the attempt. Any
        thread may use it.
        """
        return get_logger("streamer_worker.handler").bind(
            request_id=self.request_id, action=self.action, attempt=self.attempt
        )


def attempt_fields(context: AttemptInfo) -> dict[str, Any]:
    """Return the fields that AttemptInfo and both contexts have, by name."""
    return {name: getattr(context, name) for name in AttemptInfo.__dataclass_fields__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Context(AttemptInfo, Generic[State]):
    """The context of an async handler: its request, progress, checkpoints, and when to end.

    * `state`: the value that the lifespan of the handler's group yielded; None without a lifespan.
    * `channel`: used by the worker, not by handlers.

    Use the methods on the worker's event loop only. `draining`, `cancelled`, `log` and the
    fields may be read from any thread.
    """

    state: State = field(default=None, repr=False)  # type: ignore[assignment]
    channel: WorkerChannel = field(repr=False)

    @property
    def draining(self) -> bool:
        """Whether the worker is about to stop. A handler that ends soon, perhaps after a
        checkpoint, is not cancelled.
        """
        return self.channel.draining

    @property
    def cancelled(self) -> bool:
        """Whether the handler must end now: its request was cancelled or taken away, its time
        is over, or the worker stops. True after its end, too.
        """
        return self.channel.cancelled

    async def progress(
        self,
        fraction_or_done: float | None = None,
        message: str | None = None,
        *,
        total: float | None = None,
        details: Mapping[str, Any] | None = None,
        reset: bool = False,
    ) -> None:
        """Report how far the work is: as a fraction from 0 to 1, or as a number of `total`.

        * `message`: one line for people.
        * `details`: values for programs, as DynamoDB can hold them.
        * `reset`: accept a fraction that is smaller than the last one, which is ignored
          otherwise.

        Arguments that are left out keep their last value. Call it as often as you like: the
        newest progress is written at most once a second and pushed at most ten times a second,
        and the last is always stored. Does not wait for either. Raises ValidationError for a
        fraction or details that are invalid, and ItemTooLarge for more than an item can hold.

        >>> import anyio
        >>> from streamer_worker import handler
        >>> from streamer_worker.testing import run_handler
        >>> @handler("import")
        ... async def import_rows(payload: dict[str, int], ctx: Context) -> None:
        ...     await ctx.progress(0.1, "Opening the file")
        ...     await ctx.progress(3, "Reading rows", total=4, details={"errors": 0})
        >>> run = anyio.run(run_handler, import_rows)
        >>> [(progress.fraction, progress.message) for progress in run.progress]
        [(0.1, 'Opening the file'), (0.75, 'Reading rows')]
        """
        fraction = fraction_of(fraction_or_done, total)
        await self.channel.progress(ProgressUpdate(fraction, message, details, reset))

    async def checkpoint(self, value: Any) -> None:
        """Store a value from which a later attempt can continue. It is stored when this returns.

        The value is a mapping, a model, a dataclass, or any other value that DynamoDB can hold.
        It replaces the last checkpoint. While the table is not available this waits.

        Raises ValidationError for a value that DynamoDB cannot hold, and ItemTooLarge for a
        value that the request has no room for. If the handler does not catch them, its request
        fails without a retry.

        >>> import anyio
        >>> from streamer_worker import handler
        >>> from streamer_worker.testing import run_handler
        >>> @handler("import")
        ... async def import_rows(payload: dict[str, int], ctx: Context) -> None:
        ...     for row in range(ctx.last_checkpoint or 0, payload["rows"]):
        ...         await ctx.checkpoint(row + 1)
        >>> run = anyio.run(lambda: run_handler(import_rows, {"rows": 4}, checkpoint=2, attempt=2))
        >>> run.checkpoints
        [3, 4]
        """
        await self.channel.checkpoint(value)

    async def send(self, message: Any) -> None:
        """Push a message of your own to the request's connection.

        * `message`: a value that JSON has, a model or a dataclass. 115,000 bytes of JSON at most.

        The client gets `{"type": "message", "request_id": ..., "attempt": ..., "data": message}`.
        Messages of a request arrive in their order, before its outcome if they do so within two
        seconds. They are not stored, so they may be lost, and another attempt sends them again.
        Does not wait for the delivery. Does nothing if the request has no connection, or pushing is
        off. Raises ValidationError for a message that JSON cannot hold or that is too long. If the
        handler does not catch it, its request fails without a retry.

        >>> import anyio
        >>> from streamer_worker import handler
        >>> from streamer_worker.testing import run_handler
        >>> @handler("answer")
        ... async def answer(payload: dict[str, str], ctx: Context) -> None:
        ...     for word in payload["question"].split():
        ...         await ctx.send({"word": word})
        >>> run = anyio.run(run_handler, answer, {"question": "Why me?"})
        >>> [message.data for message in run.sent]
        [{'word': 'Why'}, {'word': 'me?'}]
        """
        self.channel.send(to_connection(message))
        await yield_to_loop()

    async def broadcast(
        self, message: Any, *, user: str | None = None, tenant: str | None = None
    ) -> None:
        """Push a message of your own to all connections of a user, or of a tenant.

        As `send`, to 5,000 connections at most. Who has connected in the last five seconds may not
        get it. Raises ValidationError, too, unless there is either a user or a tenant.
        """
        self.channel.send(to_connections_of(message, user=user, tenant=tenant))
        await yield_to_loop()

    async def track(
        self,
        items: Iterable[Item] | AsyncIterable[Item],
        message: str | None = None,
        *,
        total: float | None = None,
    ) -> AsyncIterator[Item]:
        """Yield the items, and report progress after each of them.

        `total` is the number of items. Without it their length is used, or the hint that an
        iterator gives. If there is none either, the number of items that are done is reported
        as `details={"done": ...}`, without a fraction. Raises what `progress` raises.

        >>> import anyio
        >>> from streamer_worker import handler
        >>> from streamer_worker.testing import run_handler
        >>> @handler("import")
        ... async def import_files(payload: dict[str, list[str]], ctx: Context) -> int:
        ...     return sum([len(name) async for name in ctx.track(payload["files"], "Reading")])
        >>> run = anyio.run(run_handler, import_files, {"files": ["a.csv", "b.csv"]})
        >>> run.result, [progress.fraction for progress in run.progress]
        ({'data': 10}, [0.5, 1.0])
        """
        total = total_of(items, total)
        done = 0
        if isinstance(items, AsyncIterable):
            async for item in items:
                yield item
                done += 1
                await self.progress(**track_arguments(done, total, message))
        else:
            for item in items:
                yield item
                done += 1
                await self.progress(**track_arguments(done, total, message))


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncContext(AttemptInfo, Generic[State]):
    """The context of a handler that is a plain function: as Context, without `await`.

    * `state`: as Context.state. None in a process.
    * `channel`: used by the worker, not by handlers.

    The handler runs in a thread or in a process. The methods raise HandlerCancelled when the
    handler must end. Threads that the handler starts may use the context, too. Forked children may
    not: there the methods raise RuntimeError.
    """

    state: State = field(default=None, repr=False)  # type: ignore[assignment]
    channel: SyncWorkerChannel = field(repr=False)

    @property
    def draining(self) -> bool:
        """As Context.draining."""
        return self.channel.draining

    @property
    def cancelled(self) -> bool:
        """As Context.cancelled. Nothing interrupts a thread, so check this in long work."""
        return self.channel.cancelled

    def progress(
        self,
        fraction_or_done: float | None = None,
        message: str | None = None,
        *,
        total: float | None = None,
        details: Mapping[str, Any] | None = None,
        reset: bool = False,
    ) -> None:
        """As Context.progress. Raises HandlerCancelled, too."""
        fraction = fraction_of(fraction_or_done, total)
        self.channel.progress(ProgressUpdate(fraction, message, details, reset))

    def checkpoint(self, value: Any) -> None:
        """As Context.checkpoint: blocks until the value is stored. Raises HandlerCancelled, too.

        Raises RuntimeError on the event loop, which it would block.
        """
        self.channel.checkpoint(value)

    def send(self, message: Any) -> None:
        """As Context.send. Raises HandlerCancelled, too."""
        self.channel.send(to_connection(message))

    def broadcast(
        self, message: Any, *, user: str | None = None, tenant: str | None = None
    ) -> None:
        """As Context.broadcast. Raises HandlerCancelled, too."""
        self.channel.send(to_connections_of(message, user=user, tenant=tenant))

    def track(
        self, items: Iterable[Item], message: str | None = None, *, total: float | None = None
    ) -> Iterator[Item]:
        """As Context.track. Raises HandlerCancelled, too."""
        total = total_of(items, total)
        for done, item in enumerate(items, start=1):
            yield item
            self.progress(**track_arguments(done, total, message))
