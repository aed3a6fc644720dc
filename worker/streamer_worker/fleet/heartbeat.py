"""The worker's row: its lease, its mailbox, and its view of the fleet.

The worker takes itself for dead when it did not even try to beat for so long that others may
have given it up: it was paused, or starved. When it tries and the table is away it goes on,
because then nobody else can look either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import anyio

from streamer_store import Clock, NotFound, StoreError, StoreUnavailable, WorkerRegistry, WorkerRow
from streamer_worker.events import Events, FleetObserved, HeartbeatTried, StepFailed
from streamer_worker.fleet.view import Fleet, FleetView
from streamer_worker.settings import PresenceSettings

_ROWS_PER_LOOK: Final = 32
# A share of one processor, since the last heartbeat.
_PAUSED_SHARE: Final = 0.1
# How long the removal of the row may take, in seconds.
REMOVAL: Final = 4.0


@dataclass(slots=True, kw_only=True)
class WorkerStatus:
    """What a beat tells of the worker."""

    in_flight: int = 0
    draining: bool = False
    sweeps: int = 0


class HeartbeatListener(Protocol):
    """What the row's reader has for the worker."""

    def on_heartbeat(self, began: float) -> None: ...

    def on_fleet_view(self, view: FleetView) -> None: ...

    def cancel(self, versions: frozenset[str]) -> None: ...

    def drain(self) -> None: ...

    def fence(self, reason: str, *, paused: bool) -> None: ...


class Heartbeat:
    """Beats, reads the mailbox and looks at the fleet; after `fence` it does nothing more."""

    def __init__(
        self,
        *,
        row: WorkerRow,
        workers: WorkerRegistry,
        settings: PresenceSettings,
        worker_status: Callable[[], WorkerStatus],
        listener: HeartbeatListener,
        events: Events,
        clock: Clock,
        cpu: Callable[[], float],
    ) -> None:
        self._row = row
        self._workers = workers
        self._settings = settings
        self._worker_status = worker_status
        self._listener = listener
        self._events = events
        self._clock = clock
        self._cpu = cpu
        self._cpu_at_beat = cpu()
        self._fleet = Fleet(worker_id=row.worker_id, lease=settings.lease)
        self._handled: frozenset[str] = frozenset()
        self._drain_told = False
        self._fenced = False
        self._sign = clock.steady()
        self._began = self._sign
        self._last_heartbeat = self._sign
        self._missed = False
        self._beats_per_look = 1
        self._beats = 0

    async def register(self) -> None:
        """Write the row and read the fleet once. Where DynamoDB does not answer, try again for
        the length of a lease. Raises what the store raises.
        """
        until = self._clock.steady() + self._settings.lease
        while True:
            try:
                await self._register()
            except StoreUnavailable as error:
                if self._clock.steady() + self._settings.heartbeat > until:
                    raise
                self._events.emit(StepFailed(loop="register", error=error))
                await anyio.sleep(self._settings.heartbeat)
            else:
                return

    async def _register(self) -> None:
        began = self._clock.steady()
        await self._workers.register(self._row)
        self._sign, self._last_heartbeat = self._clock.steady(), began
        await self._look()

    async def step(self) -> None:
        """Beat once, and look at the fleet when it is time to."""
        self._began = self._clock.steady()
        if self._fenced or self._was_away():
            return
        row = await self._beat()
        if self._was_away():
            return
        if row is not None:
            self._last_heartbeat, self._missed = self._began, False
            self._cpu_at_beat = self._cpu()
            self._listener.on_heartbeat(self._began)
            self._read_mail(row)
        else:
            # Who cannot beat cannot tell whether others can: their silence proves nothing.
            self._fleet.restart()
        self._beats += 1
        if self._beats % self._beats_per_look == 0:
            await self._try_look()

    def pause(self, _: None) -> float:
        """Return what is left of the heartbeat."""
        return max(0.0, self._began + self._settings.heartbeat - self._clock.steady())

    async def remove(self) -> None:
        """Remove the row, when nothing bears its id any more. Raises what the store raises, and
        TimeoutError.
        """
        with anyio.fail_after(REMOVAL):
            await self._workers.remove(self._row.worker_id)

    async def _beat(self) -> WorkerRow | None:
        worker_status = self._worker_status()
        handled, drain_told = self._handled, self._drain_told
        row = None
        outcome = "failed"
        error: Exception | None = None
        try:
            with anyio.fail_after(self._settings.heartbeat):
                row = await self._workers.beat(
                    self._row.worker_id,
                    in_flight=worker_status.in_flight,
                    draining=worker_status.draining,
                    sweeps=worker_status.sweeps,
                    handled=handled,
                    drain_handled=drain_told,
                )
            outcome = "ok"
        except NotFound:
            outcome = "gone"
        except (StoreError, TimeoutError) as failed:
            error = failed
        seconds = self._clock.steady() - self._began
        self._events.emit(HeartbeatTried(outcome=outcome, seconds=seconds, error=error))
        if outcome == "gone":
            self._fence("its row was removed")
        return row

    def _read_mail(self, row: WorkerRow) -> None:
        self._handled = row.cancel
        if row.cancel:
            self._listener.cancel(row.cancel)
        if row.drain and not self._drain_told:
            self._drain_told = True
            self._listener.drain()

    async def _try_look(self) -> None:
        try:
            with anyio.fail_after(self._settings.heartbeat):
                await self._look()
        except (StoreError, TimeoutError):
            pass  # the beat tells of outages; the stopwatches know that nobody looked
        self._was_away()

    async def _look(self) -> None:
        began = self._clock.steady()
        rows = await self._workers.list()
        view = self._fleet.observe(
            rows,
            began=began,
            ended=self._clock.steady(),
            patience=2 * self._settings.heartbeat * self._beats_per_look,
        )
        # The cost of looking grows with the fleet's square, unless large fleets look less often.
        # Whoever leads is one, and is waited for.
        self._beats_per_look = 1 if view.leads else 1 + len(rows) // _ROWS_PER_LOOK
        self._events.emit(FleetObserved(live=len(view.live), dead=len(view.dead), leads=view.leads))
        self._listener.on_fleet_view(view)

    def _was_away(self) -> bool:
        """Fence when no beat has succeeded for too long, and it did not always try."""
        now = self._clock.steady()
        away, self._sign = now - self._sign, now
        self._missed = self._missed or away > 2 * self._settings.heartbeat
        silent = now - self._last_heartbeat
        if self._missed and silent > self._settings.lease - self._settings.margin:
            self._fence(f"it did not always run, and no beat succeeded for {silent:.1f} s")
        return self._fenced

    def _fence(self, reason: str) -> None:
        if not self._fenced:
            self._fenced = True
            self._listener.fence(reason, paused=self._was_paused())

    def _was_paused(self) -> bool:
        """Whether the process used hardly any CPU since its last heartbeat: then it was
        paused, and none of its requests has starved it.
        """
        used = self._cpu() - self._cpu_at_beat
        return used < _PAUSED_SHARE * (self._clock.steady() - self._last_heartbeat)
