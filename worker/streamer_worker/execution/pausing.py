"""Pauses an action because of how its attempts end: RetryLater with a scope, and fuses."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta
from typing import Final

import anyio

from streamer_store import (
    AsyncRequest,
    Claim,
    Pause,
    PauseKind,
    Pauses,
    Progress,
    RequestQueue,
    StoreError,
)
from streamer_store.pause import MAX_REASON_BYTES
from streamer_worker.error_codes import PROCESSING_FAILED, TIMEOUT, WORKER_CRASHED
from streamer_worker.events import FuseBlown, StepFailed
from streamer_worker.execution.outcome import Complete, Fail, Outcome, Retry
from streamer_worker.execution.settler import Settled, Settler
from streamer_worker.fleet.pauses import KnownPauses
from streamer_worker.handlers.fuse import Fuse
from streamer_worker.handlers.registry import Registry
from streamer_worker.intake.pause_gate import PauseGate
from streamer_worker.push.announcer import Announcer
from streamer_worker.runtime import Runtime
from streamer_worker.settings import PauseSettings

# How long the write of a pause may delay an outcome, in seconds.
_WRITE_TIMEOUT: Final = 2.0
# By how much a hold must be longer than the one in force, so that many attempts that end at the
# same moment write it once.
_MIN_EXTENSION: Final = timedelta(seconds=1)
_TRIES: Final = 3
# An attempt with one of these codes failed because of the handler or what it calls, not because
# of its request.
_FAULTS: Final = frozenset({PROCESSING_FAILED, TIMEOUT, WORKER_CRASHED})


class Pausing:
    """Writes the pauses that follow from outcomes. Event loop's thread only. Raises nothing.

    What it writes is in force on this worker at once, and on the others from their next
    heartbeat on. If the write fails, it is in force on this worker until its next read.
    """

    def __init__(
        self,
        *,
        worker_id: str,
        registry: Registry,
        known: KnownPauses,
        pauses: Pauses,
        gate: PauseGate,
        settings: PauseSettings,
        runtime: Runtime,
    ) -> None:
        self._worker_id = worker_id
        self._registry = registry
        self._known = known
        self._pauses = pauses
        self._gate = gate
        self._max_hold = timedelta(seconds=settings.max_hold)
        self._events = runtime.events
        self._clock = runtime.clock
        self._failures: dict[str, deque[datetime]] = {}

    async def before_settling(self, request: AsyncRequest, outcome: Outcome) -> None:
        """Hold the action of the request back, if its handler asked for that."""
        if not isinstance(outcome, Retry | Fail) or outcome.hold is None:
            return
        now = self._clock.now()
        until = now + min(outcome.hold, self._max_hold)
        known = self._known.find(PauseKind.HOLD, request.action)
        held_until = known.until or until if known is not None else now
        if until <= now or (known is not None and until - held_until < _MIN_EXTENSION):
            return
        reason = f"a handler asked for it: {outcome.error}" if outcome.error else ""
        await self._write(PauseKind.HOLD, request.action, reason, until=until)

    async def after_settling(self, request: AsyncRequest, settled: Settled) -> None:
        """Count a failure, or end the pause of a fuse whose probe has succeeded."""
        was_probe = self._gate.was_probe(request.request_id)
        if settled.status == "completed" and isinstance(settled.outcome, Complete):
            if was_probe:
                await self._close(request.action)
            return
        handler = self._registry.get(request.action)
        if handler is None or handler.fuse is None or not _is_fault(settled):
            return
        failures = self._count(request.action, handler.fuse)
        if failures >= handler.fuse.failures and not self._gate.is_fused(request.action):
            await self._blow(request.action, handler.fuse, failures)

    def _count(self, action: str, fuse: Fuse) -> int:
        """Add a failure, and return how many there are within the window."""
        now = self._clock.now()
        times = self._failures.setdefault(action, deque(maxlen=fuse.failures))
        times.append(now)
        while times[0] < now - fuse.within:
            times.popleft()
        return len(times)

    async def _blow(self, action: str, fuse: Fuse, failures: int) -> None:
        del self._failures[action]
        seconds = fuse.within.total_seconds()
        self._events.emit(FuseBlown(action=action, failures=failures, within=seconds))
        reason = f"{failures} attempts failed within {seconds:g} s on one worker"
        probe_at = self._clock.now() + fuse.probe_every
        await self._write(PauseKind.FUSE, action, reason, probe_at=probe_at)

    async def _close(self, action: str) -> None:
        """End the pause of the action's fuse, also if another worker has moved its probe."""
        self._failures.pop(action, None)
        with anyio.move_on_after(_WRITE_TIMEOUT, shield=True):
            try:
                for _ in range(_TRIES):
                    stored = await self._pauses.read_all()
                    fuses = (each for each in stored if each.kind is PauseKind.FUSE)
                    fuse = next((each for each in fuses if each.name == action), None)
                    if fuse is None or await self._pauses.end(fuse):
                        if known := self._known.find(PauseKind.FUSE, action):
                            self._known.on_ended(known)
                        return
            except StoreError as error:
                self._events.emit(StepFailed(loop="pause", error=error))

    async def _write(
        self,
        kind: PauseKind,
        action: str,
        reason: str,
        *,
        until: datetime | None = None,
        probe_at: datetime | None = None,
    ) -> None:
        with anyio.move_on_after(_WRITE_TIMEOUT, shield=True):
            try:
                pause = Pause(
                    kind=kind,
                    name=action,
                    by=f"worker {self._worker_id}",
                    at=self._clock.now(),
                    until=until,
                    reason=reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore"),
                    probe_at=probe_at,
                )
                with self._known.writing(pause):
                    await self._pauses.extend(pause)
            except StoreError as error:  # an action may have a name that is too long for a pause
                self._events.emit(StepFailed(loop="pause", error=error))


class PausingSettler(Settler):
    """A Settler that also pauses actions, as the outcomes demand."""

    def __init__(
        self, pausing: Pausing, *, requests: RequestQueue, announcer: Announcer, runtime: Runtime
    ) -> None:
        super().__init__(requests=requests, announcer=announcer, runtime=runtime)
        self._pausing = pausing

    async def settle(
        self, claim: Claim, outcome: Outcome, progress: Progress | None = None
    ) -> Settled:
        """Settle the claim. A hold is in force on this worker before the first wait."""
        await self._pausing.before_settling(claim.request, outcome)
        settled = await super().settle(claim, outcome, progress)
        await self._pausing.after_settling(claim.request, settled)
        return settled


def _is_fault(settled: Settled) -> bool:
    match settled.outcome:
        case Retry(counts=True, rescued=None, code=code) | Fail(code=code):
            return settled.status in {"failed", "retried"} and code in _FAULTS
    return False
