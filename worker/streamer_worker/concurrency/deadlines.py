"""Deadlines for writes that must not be cancelled, and for code that must have time to run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final

import anyio

_PARTS: Final = 10


async def ended_within(seconds: float, wait: Callable[[], Awaitable[object]]) -> bool:
    """Wait for `seconds` in which the process runs, and return whether `wait` ended.

    A pause of the process, however long, uses up a tenth of the time at most. So what is waited
    for has time to run, and after a pause the end may come later.

    wait: called up to ten times, because it is cancelled after each tenth.
    """
    for _ in range(_PARTS):
        with anyio.move_on_after(seconds / _PARTS):
            await wait()
            return True
    return False


async def sleep_running(seconds: float) -> None:
    """Sleep for `seconds` in which the process runs, as `ended_within` counts them."""
    for _ in range(_PARTS):
        await anyio.sleep(seconds / _PARTS)


class ShieldedDeadline:
    """Makes scopes that are shielded from cancellation and have a deadline.

    `tighten` makes the deadlines earlier when the worker has to stop. Used on one event loop.

    seconds: limit of each scope.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._open: set[anyio.CancelScope] = set()
        self._latest: float | None = None

    def scope(self) -> AbstractContextManager[anyio.CancelScope]:
        """Return a shielded scope to enter. At the deadline its body is cancelled."""
        deadline = anyio.current_time() + self._seconds
        if self._latest is not None:
            deadline = min(deadline, self._latest)
        return _OpenScope(anyio.CancelScope(shield=True, deadline=deadline), self._open)

    def tighten(self, seconds: float) -> None:
        """End open and later scopes in `seconds` at the latest. No open scope is extended."""
        self._latest = anyio.current_time() + seconds
        for scope in self._open:
            scope.deadline = min(scope.deadline, self._latest)


class _OpenScope(AbstractContextManager[anyio.CancelScope]):
    """A scope that is in `scopes` while it is entered. Each request enters two of them."""

    def __init__(self, scope: anyio.CancelScope, scopes: set[anyio.CancelScope]) -> None:
        self._scope = scope
        self._scopes = scopes

    def __enter__(self) -> anyio.CancelScope:
        self._scopes.add(self._scope)
        return self._scope.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self._scopes.discard(self._scope)
        return bool(self._scope.__exit__(kind, error, trace))
