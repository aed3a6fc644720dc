"""Taking requests from workers that are gone."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import anyio
from cachetools import LRUCache

from streamer_store import (
    Candidate,
    Clock,
    ConcurrentModification,
    InvalidInput,
    NotFound,
    RequestQueue,
    RequestStatus,
    Undecodable,
    WorkerLoss,
    WorkerRegistry,
    WorkerRow,
)
from streamer_store.errors import ungrouped
from streamer_store.schema import REQUESTS
from streamer_worker.error_codes import WORKER_LOST
from streamer_worker.events import DeadWorkerRemoved, Events, ItemUndecodable, RequestRescued
from streamer_worker.fleet.view import FleetView
from streamer_worker.intake.claimer import Claimer
from streamer_worker.intake.slots import Slots
from streamer_worker.push.announcer import Announcer
from streamer_worker.settings import PresenceSettings

_PAGE = 1000
_AT_ONCE = 10
_REMEMBERED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RescueCounts:
    running: int = 0
    rescued: int = 0
    buried: int = 0


class Rescuer:
    """The leader rescues what the dead left; every worker what bears its own id and is not in
    its memory. Every step is conditional, so that two leaders for a moment do no harm.
    """

    def __init__(
        self,
        *,
        worker_id: str,
        requests: RequestQueue,
        workers: WorkerRegistry,
        claimer: Claimer,
        announcer: Announcer,
        slots: Slots,
        settings: PresenceSettings,
        max_rescues: int,
        events: Events,
        clock: Clock,
    ) -> None:
        self._worker_id = worker_id
        self._requests = requests
        self._workers = workers
        self._claimer = claimer
        self._announcer = announcer
        self._slots = slots
        self._settings = settings
        self._max_rescues = max_rescues
        # When the workers whose rows were removed had their last heartbeat.
        self._last_seen: LRUCache[str, datetime | None] = LRUCache(_REMEMBERED)
        self._events = events
        self._clock = clock
        self._last_own: float | None = None
        self.sweeps = 0

    async def step(self, view: FleetView) -> RescueCounts:
        """Sweep once, if it is our turn, and return the counts."""
        if not view.leads and not self._own_is_due():
            return RescueCounts()
        buried = await self._bury(view.dead) if view.leads else 0
        # In this order: whoever has claimed what the first read shows has its row in the second.
        running = await self._running()
        rows = {row.worker_id for row in await self._workers.list()}
        orphaned = partial(self._is_orphan, rows=rows, leads=view.leads)
        rescued = await self._rescue_all([each for each in running if orphaned(each)])
        if view.leads:
            rescued += await self._rescue_foreign(running)
            self.sweeps += 1
        self._last_own = self._clock.steady()
        return RescueCounts(running=len(running), rescued=rescued, buried=buried)

    def _own_is_due(self) -> bool:
        now = self._clock.steady()
        return self._last_own is None or now - self._last_own >= self._settings.lease

    async def _running(self) -> list[Candidate]:
        found: list[Candidate] = []
        cursor = None
        while True:
            page = await self._requests.entries(
                RequestStatus.PROCESSING, limit=_PAGE, cursor=cursor
            )
            found += page.candidates
            cursor = page.cursor
            if cursor is None:
                return found

    def _is_orphan(self, entry: Candidate, *, rows: Collection[str], leads: bool) -> bool:
        if entry.worker_id is None:
            return False
        if entry.worker_id == self._worker_id:
            return not self._slots.holds(entry.request_id)
        return leads and entry.worker_id not in rows

    async def _rescue_all(self, entries: list[Candidate]) -> int:
        rescued: list[str] = []
        limiter = anyio.CapacityLimiter(_AT_ONCE)

        async def one(entry: Candidate) -> None:
            async with limiter:
                if await self._rescue(entry):
                    rescued.append(entry.request_id)

        with ungrouped():
            async with anyio.create_task_group() as tasks:
                for entry in entries:
                    tasks.start_soon(one, entry)
        return len(rescued)

    async def _rescue(self, entry: Candidate) -> bool:
        unanswered = self._claimer.unanswered(entry.seen_version)
        if unanswered is not None:
            return await self._claimer.release_unanswered(unanswered)
        owner = f"its worker {entry.worker_id}" if entry.worker_id else "its consumer"
        text = f"{owner} is gone"
        try:
            status = await self._requests.rescue(
                entry, error=text, code=WORKER_LOST, loss=self._loss(entry)
            )
        except (ConcurrentModification, NotFound):
            return False
        except InvalidInput as error:  # one odd item must not keep the others
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
        """Return how the entry's worker was lost. None where none was: it is our own, or
        another consumer's, and then the attempt counts.
        """
        if entry.worker_id is None or entry.worker_id == self._worker_id:
            return None
        last_seen = self._last_seen.get(entry.worker_id)
        return WorkerLoss(last_seen=last_seen, max_rescues=self._max_rescues)

    async def _rescue_foreign(self, running: list[Candidate]) -> int:
        """Rescue what another consumer has had for longer than `foreign_claim_timeout`."""
        if self._settings.foreign_claim_timeout is None:
            return 0
        before = self._clock.now() - timedelta(seconds=self._settings.foreign_claim_timeout)
        late = []
        for entry in running:
            if entry.worker_id is None and (entry.created_at is None or entry.created_at < before):
                try:
                    request = await self._requests.get(entry.request_id)
                except (NotFound, Undecodable):
                    continue
                if request.processing_started is None or request.processing_started < before:
                    late.append(entry)
        return await self._rescue_all(late)

    async def _bury(self, dead: Iterable[WorkerRow]) -> int:
        """Remove the rows of the dead as they were seen: that, one write, is what decides. Who
        has beaten meanwhile keeps its row and its requests; who comes back later has no row,
        knows it at its next beat, and stops.
        """
        buried = 0
        for row in dead:
            if await self._workers.remove(row.worker_id, beat=row.beat):
                buried += 1
                self._last_seen[row.worker_id] = row.seen_at
                self._events.emit(DeadWorkerRemoved(worker_id=row.worker_id))
        return buried
