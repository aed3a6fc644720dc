"""How many more requests a worker may run, by action, thread, process and tenant."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from streamer_store import Candidate
from streamer_worker.handlers.registry import Registry
from streamer_worker.intake.fleet_limits import FleetLimits
from streamer_worker.intake.pause_gate import PauseGate
from streamer_worker.intake.probation import Probation
from streamer_worker.intake.rate_limits import RateLimits
from streamer_worker.intake.rotation import Limit
from streamer_worker.intake.slots import Slots
from streamer_worker.settings import Settings


class Limits:
    """The capacity that is left, from the handlers' and the settings' limits.

    `lost_threads` returns how many threads still run handlers of earlier incarnations.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        slots: Slots,
        probation: Probation,
        gate: PauseGate,
        rate_limits: RateLimits,
        fleet_limits: FleetLimits,
        settings: Settings,
        lost_threads: Callable[[], int] = int,
    ) -> None:
        self._registry = registry
        self._slots = slots
        self._probation = probation
        self._gate = gate
        self._rate_limits = rate_limits
        self._fleet_limits = fleet_limits
        self._max_threads = settings.handler.threads
        self._lost_threads = lost_threads
        self._max_per_tenant = settings.tenant_concurrency
        self._max_processes = settings.handler.processes
        self._in_threads = {action for action, handler in registry.items() if handler.in_thread}
        self._in_processes = {action for action, handler in registry.items() if handler.process}

    def knows(self, action: str) -> bool:
        """Return whether this worker has a handler for the action."""
        return action in self._registry

    def limits_of(self, candidate: Candidate) -> tuple[Limit, ...]:
        """Return the limits under which the request counts, beside the number of slots."""
        action, tenant = candidate.action or "", candidate.tenant_id
        limits = []
        handler = self._registry.get(action)
        if handler is not None and handler.max_concurrency is not None:
            limits.append(("action", action))
        if self._fleet_limits.has(action):
            limits.append(("fleet", action))
        if action in self._in_threads:
            limits.append(("threads", ""))
        if action in self._in_processes:
            limits.append(("processes", ""))
        if self._gate.is_fused(action):
            limits.append(("probe", action))
        if tenant is not None and self._max_per_tenant is not None:
            limits.append(("tenant", tenant))
        limits += [("rate", name) for name in self._rate_limits.limits_of(candidate)]
        return tuple(limits)

    def left(self, limit: Limit) -> float:
        """Return how many more requests may run under the limit. It may be negative."""
        match limit:
            case ("probe", action):
                return self._gate.probes_left(action)
            case ("action", action):
                most = self._registry[action].max_concurrency
                used = self._slots.of_action(action)
            case ("threads", _):
                most = self._max_threads
                used = self._lost_threads() + self._used_by(self._in_threads)
            case ("processes", _):
                most, used = self._max_processes, self._used_by(self._in_processes)
            case ("fleet", action):
                return self._fleet_limits.left(action)
            case ("rate", name):
                return self._rate_limits.left(name)
            case (_, tenant):
                most, used = self._max_per_tenant, self._slots.of_tenant(tenant)
        return math.inf if most is None else most - used

    def suspect_fits(self) -> bool:
        """Return whether one more suspect may run."""
        return self._probation.is_free

    def _used_by(self, actions: Iterable[str]) -> int:
        return sum(self._slots.of_action(action) for action in actions)
