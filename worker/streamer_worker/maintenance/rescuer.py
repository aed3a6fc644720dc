"""Rescues requests whose workers are gone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import anyio
from cachetools import LRUCache

from streamer_store import (
    Candidate,
    ConcurrentModification,
    InvalidInput,
    NotFound,
    RequestStatus,
    Stores,
    Undecodable,
    WorkerLoss,
)
from streamer_store.errors import ungrouped
from streamer_store.schema import REQUESTS
from streamer_worker.error_codes import WORKER_LOST
from streamer_worker.events import DeadWorkerRemoved, ItemUndecodable, RequestRescued
from streamer_worker.fleet.view import FleetView
from streamer_worker.intake.claimer import Claimer
from streamer_worker.intake.slots import Slots
from streamer_worker.push.announcer import Announcer
from streamer_worker.runtime import Runtime
from streamer_worker.settings import Settings

_PAGE_SIZE = 1000
_MAX_CONCURRENT = 10
_MAX_REMEMBERED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RescueCounts:
    """What one sweep did.

    `running`: how many requests are PROCESSING. `rescued`: how many were rescued. `removed`: how
    many rows of dead workers were removed.
    """

    running: int = 0
    rescued: int = 0
    removed: int = 0


class Rescuer:
    """Removes dead workers, and rescues the requests of workers that have no row.

    The leader does this for the whole fleet. Besides, every worker rescues requests that bear
    its own id although it does not hold them. LEADER-1: each write is conditional, so two leaders
    at once are safe.
    """

    def __init__(
        self,
        *,
        worker_id: str,
        stores: Stores,
        claimer: Claimer,
        announcer: Announcer,
        slots: Slots,
        settings: Settings,
        runtime: Runtime,
    ) -> None:
        self._worker_id = worker_id
        self._requests = stores.requests
        self._workers = stores.workers
        self._claimer = claimer
        self._announcer = announcer
        self._slots = slots
        self._lease = settings.presence.lease
        self._foreign_claim_timeout = settings.presence.foreign_claim_timeout
        self._max_rescues = settings.rescue.max_rescues
        # When each worker whose row was removed had its last heartbeat.
        self._last_seen: LRUCache[str, datetime | None] = LRUCache(_MAX_REMEMBERED)
        self._events = runtime.events
        self._clock = runtime.clock
        self._last_sweep: float | None = None
        # How many sweeps this worker has completed as the leader. Read on the heartbeat's thread.
        self.sweeps = 0

    async def step(self, view: FleetView) -> RescueCounts:
        """Sweep once, and return the counts.

        The leader sweeps at each call. Another worker sweeps once in a lease, and rescues only
        requests that bear its own id. Raises what the store raises.
        """
        if not view.leads and not self._sweep_is_due():
            return RescueCounts()
        # RESCUE-1: before any of their requests is rescued.
        removed = await self._remove_workers(view) if view.leads else 0
        # RESCUE-2: the requests are read before the rows. A worker registers before it claims
        # (LEASE-1), so every live worker that the first read shows has its row in the second.
        running = await self._list_running()
        worker_ids = {row.worker_id for row in await self._workers.list()}
        orphaned = partial(self._is_orphaned, worker_ids=worker_ids, leads=view.leads)
        rescued = await self._rescue_all([entry for entry in running if orphaned(entry)])
        if view.leads:
            rescued += await self._rescue_foreign(running)
            self.sweeps += 1
        self._last_sweep = self._clock.steady()
        return RescueCounts(running=len(running), rescued=rescued, removed=removed)

    def _sweep_is_due(self) -> bool:
        now = self._clock.steady()
        return self._last_sweep is None or now - self._last_sweep >= self._lease

    async def _list_running(self) -> list[Candidate]:
        """Return every entry of StatusIndex that is PROCESSING."""
        entries: list[Candidate] = []
        cursor = None
        while True:
            page = await self._requests.entries(
                RequestStatus.PROCESSING, limit=_PAGE_SIZE, cursor=cursor
            )
            entries += page.candidates
            cursor = page.cursor
            if cursor is None:
                return entries

    def _is_orphaned(self, entry: Candidate, *, worker_ids: Collection[str], leads: bool) -> bool:
        """Return whether this worker must rescue the request.

        There are three cases:

        1. It has no WorkerID, as another consumer's: no. `_rescue_foreign` handles those.
        2. It bears this worker's id: only if this worker does not hold it (CLAIM-3).
        3. It bears another worker's id: only if this worker leads, and the other has no row.
        """
        if entry.worker_id is None:
            return False
        if entry.worker_id == self._worker_id:
            return not self._slots.holds(entry.request_id)
        return leads and entry.worker_id not in worker_ids

    async def _rescue_all(self, entries: list[Candidate]) -> int:
        """Rescue the requests, 10 at a time, and return how many were rescued."""
        rescued: list[str] = []
        limiter = anyio.CapacityLimiter(_MAX_CONCURRENT)

        async def rescue(entry: Candidate) -> None:
            async with limiter:
                if await self._rescue(entry):
                    rescued.append(entry.request_id)

        with ungrouped():
            async with anyio.create_task_group() as tasks:
                for entry in entries:
                    tasks.start_soon(rescue, entry)
        return len(rescued)

    async def _rescue(self, entry: Candidate) -> bool:
        """Rescue the request. Return False if it has moved on, or the write is refused."""
        unanswered = self._claimer.unanswered(entry.seen_version)
        if unanswered is not None:  # CLAIM-2
            return await self._claimer.release_unanswered(unanswered)
        owner = f"its worker {entry.worker_id}" if entry.worker_id else "its consumer"
        text = f"{owner} is gone"
        try:
            status = await self._requests.rescue(
                entry, error=text, code=WORKER_LOST, loss=self._loss(entry)
            )
        except (ConcurrentModification, NotFound):
            return False
        except InvalidInput as error:  # one such item must not stop the sweep
            self._events.emit(
                ItemUndecodable(table=REQUESTS.name, key=entry.request_id, reason=error.message)
            )
            return False
        self._events.emit(
            RequestRescued(
                request_id=entry.request_id,
                action=entry.action,
                worker_id=entry.worker_id,
                status=status,
            )
        )
        if status is RequestStatus.FAILED:
            await self._announcer.failed_in_table(
                self._requests, entry.request_id, code=WORKER_LOST, text=text
            )
        return True

    def _loss(self, entry: Candidate) -> WorkerLoss | None:
        """Return how the request's worker was lost. The attempt then does not count as a failure
        (RESCUE-4).

        Returns None if no worker was lost: the request bears this worker's id or is another
        consumer's. Then the attempt counts.
        """
        if entry.worker_id is None or entry.worker_id == self._worker_id:
            return None
        last_seen = self._last_seen.get(entry.worker_id)
        return WorkerLoss(last_seen=last_seen, max_rescues=self._max_rescues)

    async def _rescue_foreign(self, running: list[Candidate]) -> int:
        """Rescue requests that another consumer has held for `foreign_claim_timeout` seconds."""
        if self._foreign_claim_timeout is None:
            return 0
        before = self._clock.now() - timedelta(seconds=self._foreign_claim_timeout)
        overdue = []
        for entry in running:
            if entry.worker_id is None and (entry.created_at is None or entry.created_at < before):
                try:
                    request = await self._requests.get(entry.request_id)
                except (NotFound, Undecodable):
                    continue
                if request.processing_started is None or request.processing_started < before:
                    overdue.append(entry)
        return await self._rescue_all(overdue)

    async def _remove_workers(self, view: FleetView) -> int:
        """Remove the rows of dead workers, and return how many were removed.

        RESCUE-1: the removal is conditional on the Beat that was seen. This write decides that a
        worker is dead. There are two cases for a worker that is alive after all:

        1. Its heartbeat comes before the removal: it keeps its row and its requests.
        2. Its heartbeat comes after the removal: it finds no row, and fences itself.
        """
        removed = 0
        for row in view.dead:
            if await self._workers.remove(row.worker_id, beat=row.beat):
                removed += 1
                self._last_seen[row.worker_id] = row.seen_at
                self._events.emit(
                    DeadWorkerRemoved(
                        worker_id=row.worker_id,
                        host=row.host,
                        removed_by=self._worker_id,
                        silence=view.silent.get(row.worker_id),
                        in_flight=row.in_flight,
                    )
                )
        return removed
