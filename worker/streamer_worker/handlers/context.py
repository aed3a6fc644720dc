"""What a handler is given beside the payload."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from operator import length_hint
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import structlog
from typing_extensions import TypeVar as DefaultedTypeVar

from streamer_store import ValidationError
from streamer_store.values import shown
from streamer_worker.own_logger import get_logger

State = DefaultedTypeVar("State", default=Any)
Item = TypeVar("Item")

_ROUNDING = 1e-9


class ProgressUpdate(NamedTuple):
    """What a handler tells of its progress at once; None says nothing. `reset` lets the fraction
    be smaller than one told before.
    """

    fraction: float | None = None
    message: str | None = None
    details: Mapping[str, Any] | None = None
    reset: bool = False


class WorkerChannel(Protocol):
    """A handler's way to its worker."""

    @property
    def draining(self) -> bool: ...

    @property
    def cancelled(self) -> bool: ...

    async def progress(self, told: ProgressUpdate) -> None: ...

    async def checkpoint(self, value: Any) -> None: ...

    def report(self, told: ProgressUpdate) -> bool:
        """Take progress in, from any thread; return whether `wake` must be called for it."""
        ...

    def notify(self) -> None: ...


class SyncWorkerChannel(Protocol):
    """The same from another thread or process. Both raise HandlerCancelled."""

    @property
    def draining(self) -> bool: ...

    @property
    def cancelled(self) -> bool: ...

    def progress(self, told: ProgressUpdate) -> None: ...

    def checkpoint(self, value: Any) -> None: ...


class CheckpointInvalid(ValidationError):
    """The value of a checkpoint cannot be stored: it would not come back as it was."""


class HandlerCancelled(BaseException):
    """Raised out of a SyncContext when the handler shall end; let it pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptInfo:
    """What is known of an attempt when it begins. Plain values, fit to cross to a process."""

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
        """A logger whose lines name the request, its action and the attempt."""
        return get_logger("streamer_worker.handler").bind(
            request_id=self.request_id, action=self.action, attempt=self.attempt
        )


def attempt_fields(given: AttemptInfo) -> dict[str, Any]:
    """Return the fields that every context has."""
    return {name: getattr(given, name) for name in AttemptInfo.__dataclass_fields__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Context(AttemptInfo, Generic[State]):
    """The request that a handler works on, and what it may do with it.

    `attempt` counts from 1. `deadline` is when the attempt is cancelled as too long, in UTC.
    `metadata` is what the router put into the payload's `_metadata`. `last_checkpoint` is what
    an earlier attempt has given to `checkpoint`, None when there is none. `state` is what the
    lifespan of the handler's group gave. Delivery is at least once: `request_id` is the
    idempotency key.
    """

    state: State = field(default=None, repr=False)  # type: ignore[assignment]
    channel: WorkerChannel = field(repr=False)

    @property
    def draining(self) -> bool:
        """Whether the worker is about to stop: a good time to come to an end."""
        return self.channel.draining

    @property
    def cancelled(self) -> bool:
        """Whether the handler shall end now: cancelled, out of time, or no longer wanted."""
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
        """Tell how far the work is: a fraction from 0 to 1, or so many of `total`.

        Call it as often as you like: the newest counts, is written once a second at most, and
        the last is never lost. What is left out stays as it was. A smaller fraction than the
        last is passed over, unless `reset`. Raises ValidationError for what is no fraction, or
        details that DynamoDB cannot hold.
        """
        fraction = fraction_of(fraction_or_done, total)
        await self.channel.progress(ProgressUpdate(fraction, message, details, reset))

    async def checkpoint(self, value: Any) -> None:
        """Store what a later attempt shall go on from; it is safe when this returns.

        The value is a mapping, a model, a dataclass, or any that DynamoDB can hold. While the
        table is away this waits. Raises CheckpointInvalid for a value that DynamoDB cannot hold,
        ItemTooLarge where the request has no room for it. A handler that lets them pass fails
        its request at once.
        """
        await self.channel.checkpoint(value)

    async def track(
        self,
        items: Iterable[Item] | AsyncIterable[Item],
        message: str | None = None,
        *,
        total: float | None = None,
    ) -> AsyncIterator[Item]:
        """Yield the items, and tell how many of them are done.

        The total is the number of items where they know it; where nobody does, only their
        count is told, as details.
        """
        total = _total(items, total)
        done = 0
        if isinstance(items, AsyncIterable):
            async for item in items:
                yield item
                done += 1
                await self.progress(**_tracked(done, total, message))
        else:
            for item in items:
                yield item
                done += 1
                await self.progress(**_tracked(done, total, message))


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncContext(AttemptInfo, Generic[State]):
    """The same for a handler that is a plain function, in a thread or a process of its own.

    Where a Context's methods are cancelled, these raise HandlerCancelled. In a process there
    is no `state`.
    """

    state: State = field(default=None, repr=False)  # type: ignore[assignment]
    channel: SyncWorkerChannel = field(repr=False)

    @property
    def draining(self) -> bool:
        """As Context.draining."""
        return self.channel.draining

    @property
    def cancelled(self) -> bool:
        """As Context.cancelled. Nothing interrupts a thread: look at this in long work."""
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
        """As Context.progress."""
        fraction = fraction_of(fraction_or_done, total)
        self.channel.progress(ProgressUpdate(fraction, message, details, reset))

    def checkpoint(self, value: Any) -> None:
        """As Context.checkpoint."""
        self.channel.checkpoint(value)

    def track(
        self, items: Iterable[Item], message: str | None = None, *, total: float | None = None
    ) -> Iterator[Item]:
        """As Context.track."""
        total = _total(items, total)
        for done, item in enumerate(items, start=1):
            yield item
            self.progress(**_tracked(done, total, message))


def fraction_of(done: float | None, total: float | None) -> float | None:
    """Return what share of `total` is done; without a total, `done` is the share.

    More than the total is all of it: totals are often estimates. Raises ValidationError.
    """
    if done is None:
        return None
    limit = 1.0 if total is None else total
    told: tuple[tuple[str, object], ...] = (("progress", done), ("total", limit))
    for name, value in told:
        # NaN is in no range; a bool is a mistake.
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise ValidationError(name, f"must be a number, 0 or more, not {shown(value)}")
    if total is None:
        if done > 1 + _ROUNDING:
            raise ValidationError(
                "progress", f"must be a fraction from 0 to 1, or have a total, not {shown(done)}"
            )
        return min(1.0, float(done))
    return 1.0 if done >= total else done / total


def _total(items: object, given: float | None) -> float | None:
    return given if given is not None else length_hint(items) or None


def _tracked(done: int, total: float | None, message: str | None) -> dict[str, Any]:
    if total is None:
        return {"message": message, "details": {"done": done}}
    return {"fraction_or_done": done, "message": message, "total": total}
