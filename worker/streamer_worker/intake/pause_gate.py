"""Holds back the requests that are paused, and lets through the probes of a fuse."""

from __future__ import annotations

import math
from typing import Final

import anyio
from cachetools import LRUCache

from streamer_store import Candidate, Pause, PauseKind, Pauses, StoreError
from streamer_worker.events import FuseProbed, StepFailed
from streamer_worker.fleet.pauses import KnownPauses
from streamer_worker.handlers.fuse import DEFAULT_PROBE
from streamer_worker.handlers.registry import Registry
from streamer_worker.runtime import Runtime

_MAX_PROBES: Final = 1000
# How long the write before a probe may take, in seconds. Claims and polls wait for it.
_PROBE_TIMEOUT: Final = 2.0
# How long nothing is tried after another worker was first, or the write failed, in seconds. By
# then the next heartbeat has read when the next probe is due.
_AFTER_LOST: Final = 10.0


class PauseGate:
    """Decides which requests may be claimed although something is paused. Event loop only.

    A request that is paused is not claimed (PAUSE-1). There is one exception: while nothing but
    its fuse holds an action back, one of its requests is claimed now and then, as a probe. The
    worker that moves the time of the next probe by a conditional write may claim one (PAUSE-3).
    """

    def __init__(
        self,
        *,
        worker_id: str,
        known: KnownPauses,
        pauses: Pauses,
        registry: Registry,
        runtime: Runtime,
    ) -> None:
        self._worker_id = worker_id
        self._known = known
        self._pauses = pauses
        self._registry = registry
        self._events = runtime.events
        self._clock = runtime.clock
        # The request of each action that is about to be claimed as a probe.
        self._reserved: dict[str, str] = {}
        # The steady time until which this worker tries no probe of an action.
        self._lost_until: dict[str, float] = {}
        # The requests that were probes, by id, and whether the outcome is still to come.
        self._probes: LRUCache[str, bool] = LRUCache(_MAX_PROBES)

    @property
    def version(self) -> int:
        """A number that grows whenever what is paused may have changed."""
        return self._known.version

    def may_run(self, candidate: Candidate) -> bool:
        """Return whether the candidate may be claimed now, as a probe or because it is not paused.

        Without Action or TenantID in the index, only a pause of everything holds it back.
        """
        covering = self._known.covering(candidate.action, candidate.tenant_id)
        return not covering or self._is_probe(covering, candidate.action or "")

    def is_fused(self, action: str) -> bool:
        """Return whether the action's fuse has blown."""
        return self._known.find(PauseKind.FUSE, action) is not None

    def has_probed(self, candidate: Candidate) -> bool:
        """Return whether the request of an action whose fuse has blown was a probe before.

        Others go first. Otherwise the oldest would use up its attempts, probe by probe.
        """
        return candidate.request_id in self._probes and self.is_fused(candidate.action or "")

    def probes_left(self, action: str) -> float:
        """Return how many requests of the action may be claimed now: 1 or 0 while it is fused."""
        fuse = self._known.find(PauseKind.FUSE, action)
        if fuse is None:
            return math.inf
        is_lost = self._clock.steady() < self._lost_until.get(action, -math.inf)
        return 1 if action not in self._reserved and self._is_due(fuse) and not is_lost else 0

    def reserve(self, candidate: Candidate) -> None:
        """Note that `admit` is called for the candidate soon. Then no other is the probe."""
        if candidate.action is not None and self.is_fused(candidate.action):
            self._reserved.setdefault(candidate.action, candidate.request_id)

    async def admit(self, candidate: Candidate) -> bool:
        """Return whether the claim of a reserved candidate may be sent.

        It is called right before the claim, because the candidate may have been selected before
        the pause. For a probe this writes, if it is still due: the fuse may have blown, or another
        worker may have probed, after the selection.
        """
        action, request_id = candidate.action or "", candidate.request_id
        is_reserved = self._reserved.get(action) == request_id
        try:
            covering = self._known.covering(candidate.action, candidate.tenant_id)
            if not covering:
                return True
            if not is_reserved or any(each.kind is not PauseKind.FUSE for each in covering):
                return False
            return self._is_due(covering[0]) and await self._probe(covering[0], request_id)
        finally:
            if is_reserved:
                self._reserved.pop(action, None)

    def was_probe(self, request_id: str) -> bool:
        """Return whether the request was claimed as a probe since the last call for it."""
        was_probe = self._probes.get(request_id, False)
        if was_probe:
            self._probes[request_id] = False
        return was_probe

    def _is_probe(self, covering: list[Pause], action: str) -> bool:
        if any(pause.kind is not PauseKind.FUSE for pause in covering):
            return False
        return self.probes_left(action) > 0

    def _is_due(self, fuse: Pause) -> bool:
        return fuse.probe_at is None or fuse.probe_at <= self._clock.now()

    async def _probe(self, fuse: Pause, request_id: str) -> bool:
        """Move the time of the next probe. Return whether this worker did it."""
        handler = self._registry.get(fuse.name)
        own = handler.fuse if handler is not None else None
        later = self._clock.now() + (own.probe_every if own is not None else DEFAULT_PROBE)
        moved = None
        try:
            with anyio.fail_after(_PROBE_TIMEOUT):
                moved = await self._pauses.move_probe(fuse, later, by=self._worker_id)
        except (StoreError, TimeoutError) as error:
            self._events.emit(StepFailed(loop="probe", error=error))
        if moved is None:
            self._lost_until[fuse.name] = self._clock.steady() + _AFTER_LOST
            return False
        self._known.on_written(moved)
        self._probes[request_id] = True
        self._events.emit(FuseProbed(action=fuse.name, request_id=request_id))
        return True
