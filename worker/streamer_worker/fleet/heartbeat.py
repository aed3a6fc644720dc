"""Renews the worker's lease, reads its mailbox, and observes the fleet.

The lease, the mailbox (Cancel and Drain) and what others see of the worker are one row of the
workers table.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

import anyio

from streamer_store import NotFound, StoreError, StoreUnavailable, WorkerRegistry, WorkerRow
from streamer_store.fleet_shares import Shares
from streamer_store.pause import CONTROL_PAUSE
from streamer_store.values import Item
from streamer_worker.events import FleetObserved, HeartbeatTried, StepFailed
from streamer_worker.fleet.view import Fleet, FleetView, heartbeats_per_read
from streamer_worker.runtime import Runtime
from streamer_worker.settings import PresenceSettings

# A process that used less than this share of one CPU since its last heartbeat was paused.
_PAUSED_CPU_SHARE: Final = 0.1
# How long the removal of the row may take, in seconds.
REMOVE_TIMEOUT: Final = 4.0


@dataclass(slots=True, kw_only=True)
class WorkerStatus:
    """What a heartbeat writes about the worker.

    `in_flight`: how many requests it runs or holds. `draining`: the worker claims nothing more.
    `sweeps`: how many sweeps it has completed as the leader. `shares`: of limits of the fleet.
    """

    in_flight: int = 0
    draining: bool = False
    sweeps: int = 0
    shares: Shares = field(default_factory=dict)


class HeartbeatListener(Protocol):
    """Receives what the heartbeat learns from the worker's row and from the fleet.

    The worker implements it. All methods are called on the thread of the worker's event loop, in
    the order of what happened: `heartbeat_on_loop` calls them from there, and
    `heartbeat_on_thread` schedules each call there. They must return quickly.
    """

    def on_heartbeat(self, began: float) -> None:
        """Called after each heartbeat that succeeded.

        `began`: when it began, on the steady clock. The lease counts from then.
        """

    def on_fleet_view(self, view: FleetView) -> None:
        """Called after each read of the fleet, first during registration."""

    def on_pauses(self, item: Item | None, began: float) -> None:
        """Called after each read of the row of pauses alone. None: there is no row.

        `began`: when the read began, on the steady clock.
        The row is read in heartbeats that do not read the fleet. A view has it, too (`controls`).
        """

    def cancel(self, versions: frozenset[str]) -> None:
        """Interrupt the attempts whose cancellations set these Versions.

        Called after each heartbeat that finds Versions in Cancel. Versions of which this worker
        runs nothing are ignored, because a Version may come late or twice.
        """

    def drain(self) -> None:
        """Stop claiming, let handlers finish, and end. Called once, when the row asks for it."""

    def fence(self, reason: str, *, paused: bool) -> None:
        """Stop all handlers and write nothing more: other workers may run the requests already.

        `reason`: a clause for the log. `paused`: the process was paused, so no request of this
        worker caused it. A second call is ignored.
        """


class Heartbeat:
    """Writes heartbeats, reads the mailbox and observes the fleet, until it fences the worker.

    All methods run on one thread. `worker_status` is called on that thread, which may not be the
    worker's: it must only read. `cpu` returns the seconds of CPU that the process has used.
    """

    def __init__(
        self,
        *,
        row: WorkerRow,
        workers: WorkerRegistry,
        settings: PresenceSettings,
        worker_status: Callable[[], WorkerStatus],
        listener: HeartbeatListener,
        runtime: Runtime,
        cpu: Callable[[], float],
    ) -> None:
        self._row = row
        self._workers = workers
        self._settings = settings
        self._worker_status = worker_status
        self._listener = listener
        self._events = runtime.events
        self._clock = runtime.clock
        self._cpu = cpu
        self._cpu_at_heartbeat = cpu()
        self._fleet = Fleet(worker_id=row.worker_id, lease=settings.lease)
        # The Versions in Cancel that the listener has received: the next heartbeat removes them.
        self._cancel_handled: frozenset[str] = frozenset()
        self._drain_handled = False
        self._fenced = False
        # Steady times: when this code last ran, when the current heartbeat began, and when the
        # last successful one began.
        self._last_ran = self._clock.steady()
        self._began = self._last_ran
        self._last_heartbeat = self._last_ran
        # Whether this code did not run for two heartbeats, since the last successful one.
        self._had_gap = False
        self._heartbeats_per_read = 1
        self._heartbeats = 0

    async def register(self) -> None:
        """Write the row, and read the fleet once.

        If DynamoDB does not answer, try again for the length of a lease, or until the worker
        drains. Raises StoreUnavailable after that, and any other error of the store at once.
        """
        until = self._clock.steady() + self._settings.lease
        while True:
            try:
                await self._register()
            except StoreUnavailable as error:
                late = self._clock.steady() + self._settings.heartbeat > until
                if late or self._worker_status().draining:
                    raise
                self._events.emit(StepFailed(loop="register", error=error))
                await anyio.sleep(self._settings.heartbeat)
            else:
                return

    async def _register(self) -> None:
        began = self._clock.steady()
        await self._workers.register(self._row)
        self._last_ran, self._last_heartbeat = self._clock.steady(), began
        await self._read_fleet()

    async def step(self) -> None:
        """Write one heartbeat, and read the fleet if it is time to. Does nothing once fenced."""
        self._began = self._clock.steady()
        if self._fence_after_silence():
            return
        row = await self._write_heartbeat()
        if self._fence_after_silence():
            return
        if row is not None:
            # LEASE-2: others may have seen it at any time since it began.
            self._last_heartbeat, self._had_gap = self._began, False
            self._cpu_at_heartbeat = self._cpu()
            self._listener.on_heartbeat(self._began)
            self._read_mailbox(row)
        else:
            # LEASE-4: the other workers' heartbeats may fail for the same reason, and that is no
            # sign that they are dead.
            self._fleet.restart_timers()
        self._heartbeats += 1
        if self._heartbeats % self._heartbeats_per_read == 0:
            await self._try_read_fleet()
        else:
            await self._try_read_pauses()

    def pause(self, _: None) -> float:
        """Return the seconds until the next heartbeat, counted from when the last one began."""
        return max(0.0, self._began + self._settings.heartbeat - self._clock.steady())

    async def remove(self) -> None:
        """Remove the row. Call it when no request bears this worker's id any more.

        Raises TimeoutError after 4 s, and the errors of the store.
        """
        with anyio.fail_after(REMOVE_TIMEOUT):
            await self._workers.remove(self._row.worker_id)

    async def _write_heartbeat(self) -> WorkerRow | None:
        """Write a heartbeat, and return the row, or None if it failed. Fence if the row is gone."""
        worker_status = self._worker_status()
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
                    shares=worker_status.shares,
                    handled=self._cancel_handled,
                    drain_handled=self._drain_handled,
                )
            outcome = "ok"
        except NotFound:
            outcome = "gone"
        except TimeoutError:
            error = TimeoutError(f"no answer within {self._settings.heartbeat:g} s")
        except StoreError as exception:
            error = exception
        seconds = self._clock.steady() - self._began
        self._events.emit(HeartbeatTried(outcome=outcome, seconds=seconds, error=error))
        if outcome == "gone":  # LEASE-2: another worker removed it and rescues the requests
            self._fence("its row was removed")
        return row

    def _read_mailbox(self, row: WorkerRow) -> None:
        self._cancel_handled = row.cancel
        if row.cancel:
            self._listener.cancel(row.cancel)
        if row.drain:  # once only: each later heartbeat removes Drain before it returns the row
            self._drain_handled = True
            self._listener.drain()

    async def _try_read_fleet(self) -> None:
        """Read the fleet. A failure is ignored: the next read restarts the timers if needed.

        An outage is reported by the heartbeats that fail.
        """
        with suppress(StoreError, TimeoutError), anyio.fail_after(self._settings.heartbeat):
            await self._read_fleet()
        self._fence_after_silence()

    async def _try_read_pauses(self) -> None:
        """Read the row of pauses. PAUSE-1: after a failure the last known pauses are in force."""
        began = self._clock.steady()
        with suppress(StoreError, TimeoutError), anyio.fail_after(self._settings.heartbeat):
            self._listener.on_pauses(await self._workers.read_control(CONTROL_PAUSE), began)
        self._fence_after_silence()

    async def _read_fleet(self) -> None:
        began = self._clock.steady()
        rows = await self._workers.read_all()
        view = self._fleet.observe(
            rows,
            began=began,
            ended=self._clock.steady(),
            max_gap=2 * self._settings.heartbeat * self._heartbeats_per_read,
        )
        # The leader is only one worker, and rescues wait for its reads.
        self._heartbeats_per_read = 1 if view.leads else heartbeats_per_read(view)
        self._events.emit(FleetObserved(live=len(view.live), dead=len(view.dead), leads=view.leads))
        self._listener.on_fleet_view(view)

    def _fence_after_silence(self) -> bool:
        """Fence this worker if others may have declared it dead. Return whether it is fenced.

        LEASE-2: no heartbeat may follow a pause in which others could have removed the row.
        Called whenever this code runs again after a wait: it also measures how long that took.
        There are three cases:

        1. A heartbeat succeeded less than `lease - margin` seconds ago: others have seen it.
        2. None did, and since the last one this code once did not run for two heartbeats: the
           process was paused or starved. Others could read the table meanwhile, so fence.
        3. None did, although this code always ran: the table does not answer. Go on, because
           most likely no other worker can read it either. If one could, and removed this
           worker's row, the next heartbeat that is answered finds no row, and fences.
        """
        now = self._clock.steady()
        gap, self._last_ran = now - self._last_ran, now
        self._had_gap = self._had_gap or gap > 2 * self._settings.heartbeat
        silence = now - self._last_heartbeat
        if self._had_gap and silence > self._settings.lease - self._settings.margin:
            self._fence(f"it was paused or starved, and has had no heartbeat for {silence:.1f} s")
        return self._fenced

    def _fence(self, reason: str) -> None:
        if not self._fenced:
            self._fenced = True
            self._listener.fence(reason, paused=self._was_paused())

    def _was_paused(self) -> bool:
        """Return whether the process used hardly any CPU since its last successful heartbeat.

        If so, it was paused from outside. Otherwise one of its requests may have starved it.
        """
        used = self._cpu() - self._cpu_at_heartbeat
        return used < _PAUSED_CPU_SHARE * (self._clock.steady() - self._last_heartbeat)
