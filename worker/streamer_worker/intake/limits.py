"""How much more a worker may run: in all, of an action, in threads, in processes, of a tenant."""

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
    """`lost_threads` counts those that run for slots of other incarnations than this one."""

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
        self._threads = settings.handler.threads
        self._lost_threads = lost_threads
        self._of_tenant = settings.tenant_concurrency
        self._processes = settings.handler.processes
        self._in_threads = [action for action, each in registry.items() if each.in_thread]
        self._in_processes = [action for action, each in registry.items() if each.process]

    def knows(self, action: str) -> bool:
        return action in self._registry

    def room(self) -> Capacity:
        """Return the room that is left now."""
        return Capacity(
            total=self._slots.free,
            suspects=1 if self._probation.is_free else 0,
            limits=(self._action, self._thread, self._process, self._tenant),
        )

    def _action(self, candidate: Candidate) -> tuple[str, float]:
        action = candidate.action or ""
        handler = self._registry.get(action)
        if handler is None or handler.max_concurrency is None:
            return action, math.inf
        return action, handler.max_concurrency - self._slots.of_action(action)

    def _thread(self, candidate: Candidate) -> tuple[str, float]:
        if candidate.action not in self._in_threads:
            return "", math.inf
        return "threads", self._threads - self._lost_threads() - self._taken(self._in_threads)

    def _process(self, candidate: Candidate) -> tuple[str, float]:
        if candidate.action not in self._in_processes:
            return "", math.inf
        return "processes", self._processes - self._taken(self._in_processes)

    def _taken(self, actions: list[str]) -> int:
        return sum(self._slots.of_action(action) for action in actions)

    def _tenant(self, candidate: Candidate) -> tuple[str, float]:
        tenant = candidate.tenant_id
        if tenant is None or self._of_tenant is None:
            return "", math.inf
        return tenant, self._of_tenant - self._slots.of_tenant(tenant)
