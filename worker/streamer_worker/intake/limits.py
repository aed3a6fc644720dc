"""How many more requests a worker may run: in all, and by action, thread, process and tenant."""

from __future__ import annotations

import math
from collections.abc import Callable

from streamer_store import Candidate
from streamer_worker.handlers.registry import Registry
from streamer_worker.intake.probation import Probation
from streamer_worker.intake.selection import Capacity
from streamer_worker.intake.slots import Slots
from streamer_worker.settings import Settings


class Limits:
    """Computes the capacity that is left, from the handlers' and the settings' limits.

    `lost_threads` returns how many threads still run handlers of earlier incarnations.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        slots: Slots,
        probation: Probation,
        settings: Settings,
        lost_threads: Callable[[], int] = int,
    ) -> None:
        self._registry = registry
        self._slots = slots
        self._probation = probation
        self._max_threads = settings.handler.threads
        self._lost_threads = lost_threads
        self._max_per_tenant = settings.tenant_concurrency
        self._max_processes = settings.handler.processes
        self._in_threads = [action for action, handler in registry.items() if handler.in_thread]
        self._in_processes = [action for action, handler in registry.items() if handler.process]

    def knows(self, action: str) -> bool:
        """Return whether this worker has a handler for the action."""
        return action in self._registry

    def capacity(self) -> Capacity:
        """Return the capacity that is left now."""
        return Capacity(
            total=self._slots.free,
            suspects=1 if self._probation.is_free else 0,
            limits=(
                self._limit_by_action,
                self._limit_by_threads,
                self._limit_by_processes,
                self._limit_by_tenant,
            ),
        )

    def _limit_by_action(self, candidate: Candidate) -> tuple[str, float]:
        action = candidate.action or ""
        handler = self._registry.get(action)
        if handler is None or handler.max_concurrency is None:
            return action, math.inf
        return action, handler.max_concurrency - self._slots.of_action(action)

    def _limit_by_threads(self, candidate: Candidate) -> tuple[str, float]:
        if candidate.action not in self._in_threads:
            return "", math.inf
        used = self._lost_threads() + self._used_by(self._in_threads)
        return "threads", self._max_threads - used

    def _limit_by_processes(self, candidate: Candidate) -> tuple[str, float]:
        if candidate.action not in self._in_processes:
            return "", math.inf
        return "processes", self._max_processes - self._used_by(self._in_processes)

    def _limit_by_tenant(self, candidate: Candidate) -> tuple[str, float]:
        tenant = candidate.tenant_id
        if tenant is None or self._max_per_tenant is None:
            return "", math.inf
        return tenant, self._max_per_tenant - self._slots.of_tenant(tenant)

    def _used_by(self, actions: list[str]) -> int:
        return sum(self._slots.of_action(action) for action in actions)
