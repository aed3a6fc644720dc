"""What a handler is given beside the payload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from anyio import from_thread


class Reporter(Protocol):
    async def __call__(
        self, progress: float | None, message: str | None, details: Mapping[str, Any] | None
    ) -> None: ...


class Signals(Protocol):
    """What the worker wants of a running handler."""

    @property
    def draining(self) -> bool: ...

    @property
    def cancelled(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Context:
    request_id: str
    action: str
    attempt: int
    max_retries: int
    connection_id: str | None = None
    user_id: str | None = None
    tenant_id: str | None = None
    created_at: datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    report: Reporter = field(repr=False)
    signals: Signals = field(repr=False)

    @property
    def draining(self) -> bool:
        """Whether the worker is about to stop: a good time to come to an end."""
        return self.signals.draining

    @property
    def cancelled(self) -> bool:
        """Whether the handler shall end now: cancelled, out of time, or no longer wanted."""
        return self.signals.cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Context(_Context):
    """The request that a handler works on, and what it may do with it.

    `attempt` counts from 1. `metadata` is what the router put into the payload's `_metadata`.
    Delivery is at least once: `request_id` is the idempotency key.
    """

    async def progress(
        self,
        fraction: float | None = None,
        message: str | None = None,
        *,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Write how far the work is: a fraction from 0 to 1, and what is being done.

        What is left out stays as it was. Raises ValidationError for a fraction out of range
        or details that DynamoDB cannot hold. When the table is away the progress is dropped;
        when the request is no longer ours, the handler is cancelled here.
        """
        await self.report(fraction, message, details)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncContext(_Context):
    """The same for a handler that is a plain function, and runs in a thread."""

    def progress(
        self,
        fraction: float | None = None,
        message: str | None = None,
        *,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """As Context.progress; where that one is cancelled, this one raises what ends it."""
        from_thread.check_cancelled()
        from_thread.run(self.report, fraction, message, details)
        from_thread.check_cancelled()
