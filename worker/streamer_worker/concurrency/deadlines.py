"""Deadlines for writes that must not be cancelled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio


class ShieldedDeadline:
    """Makes scopes that are shielded from cancellation and have a deadline.

    `tighten` makes the deadlines earlier when the worker has to stop. Used on one event loop.

    seconds: limit of each scope.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._open: set[anyio.CancelScope] = set()
        self._latest: float | None = None

    @contextmanager
    def scope(self) -> Iterator[anyio.CancelScope]:
        """Enter a shielded scope. At the deadline its body is cancelled."""
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
        """End open and later scopes in `seconds` at the latest. No open scope is extended."""
        self._latest = anyio.current_time() + seconds
        for scope in self._open:
            scope.deadline = min(scope.deadline, self._latest)
