"""Time limits for writes that are not interrupted, which the end of a worker makes shorter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio


class ShieldedDeadline:
    """Gives each `scope` so many seconds, shielded from cancellation, until `hurry`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._open: set[anyio.CancelScope] = set()
        self._latest: float | None = None

    @contextmanager
    def scope(self) -> Iterator[anyio.CancelScope]:
        deadline = anyio.current_time() + self._seconds
        if self._latest is not None:
            deadline = min(deadline, self._latest)
        with anyio.CancelScope(shield=True, deadline=deadline) as scope:
            self._open.add(scope)
            try:
                yield scope
            finally:
                self._open.discard(scope)

    def tighten(self, seconds: float) -> None:
        """Give every scope that is open, and every later one, this long at most."""
        self._latest = anyio.current_time() + seconds
        for scope in self._open:
            scope.deadline = min(scope.deadline, self._latest)
