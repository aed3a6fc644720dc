"""What a context needs of its worker: the contracts, and the progress that goes over them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from streamer_worker.handlers.client_message import ClientMessage


class ProgressUpdate(NamedTuple):
    """One progress report. None leaves a field as it was. `reset` allows a fraction that is
    smaller than an earlier one.
    """

    fraction: float | None = None
    message: str | None = None
    details: Mapping[str, Any] | None = None
    reset: bool = False


class WorkerChannel(Protocol):
    """Connects a Context to its worker. Event loop's thread only, except `report`, `send` and the
    properties, which any thread may use.
    """

    @property
    def draining(self) -> bool:
        """As Context.draining."""
        ...

    @property
    def cancelled(self) -> bool:
        """As Context.cancelled."""
        ...

    async def progress(self, update: ProgressUpdate) -> None:
        """Report progress, and let other tasks run now and then."""
        ...

    async def checkpoint(self, value: Any) -> None:
        """As Context.checkpoint."""
        ...

    def report(self, update: ProgressUpdate) -> bool:
        """Report progress from any thread. Return whether `notify` must be called on the event
        loop, so that the progress is written.
        """
        ...

    def send(self, message: ClientMessage) -> None:
        """Push a message. Does nothing after the end of the attempt."""
        ...

    def notify(self) -> None:
        """Have the newest progress written and pushed soon."""
        ...


class SyncWorkerChannel(Protocol):
    """Connects a SyncContext to its worker, from another thread or process. Any thread of that
    process may use it.
    """

    @property
    def draining(self) -> bool:
        """As Context.draining."""
        ...

    @property
    def cancelled(self) -> bool:
        """As Context.cancelled."""
        ...

    def progress(self, update: ProgressUpdate) -> None:
        """Report progress. Raises HandlerCancelled."""
        ...

    def checkpoint(self, value: Any) -> None:
        """As Context.checkpoint, but blocking. Raises HandlerCancelled."""
        ...

    def send(self, message: ClientMessage) -> None:
        """Push a message. Raises HandlerCancelled."""
        ...
