"""The request queue over any engine, put together from its parts."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio

from streamer_store.bulk_changes import BulkChanges
from streamer_store.bulk_requests import BulkRequestActions
from streamer_store.claims import ClaimWriter
from streamer_store.clock import Clock
from streamer_store.decoding import Report
from streamer_store.engine import Engine
from streamer_store.errors import (
    ConcurrentModification,
    ItemTooLarge,
    NotFound,
    RequestNotPending,
    StoreError,
    Undecodable,
)
from streamer_store.lane_reader import LaneReader
from streamer_store.lanes import Lane
from streamer_store.models import Candidate, Claim
from streamer_store.operator_actions import OperatorActions
from streamer_store.protocols import CandidatePage, WorkerRegistry
from streamer_store.request_producer import RequestProducer
from streamer_store.request_reader import RequestReader
from streamer_store.request_table import RequestTable
from streamer_store.retention import Retention
from streamer_store.transitions import WAITING
from streamer_store.validation import require_limit
from streamer_store.values import Item

if TYPE_CHECKING:
    import random

_PAGE: Final = 100
_CONCURRENT_CLAIMS: Final = 25


class RequestStore:
    """Implements RequestQueue. Each method is that of a part, except `dequeue`.

    `report`: called with the error of each item that cannot be decoded and is left out.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        workers: WorkerRegistry,
        clock: Clock,
        rng: random.Random,
        report: Report,
        retention: Retention,
    ) -> None:
        table = RequestTable(engine=engine, report=report, retention=retention)
        self._clock = clock
        self._decoder = table.decoder

        producer = RequestProducer(table=table, clock=clock, rng=rng)
        self.enqueue = producer.enqueue
        self.enqueue_all = producer.enqueue_all
        self.enqueue_with_subscriptions = producer.enqueue_with_subscriptions
        self.delete = producer.delete

        reader = RequestReader(table=table)
        self.get = reader.get
        self.get_many = reader.get_many
        self.entries = reader.entries
        self.depth = reader.depth
        self.get_by_connection = reader.get_by_connection
        self.get_by_status = reader.get_by_status

        lanes = LaneReader(table=table, clock=clock)
        self.due_entries = lanes.due_entries
        self.lane_depths = lanes.lane_depths
        self.correct_lane = lanes.correct_lane

        claims = ClaimWriter(table=table, clock=clock, rng=rng)
        self.claim = claims.claim
        self.update_progress = claims.update_progress
        self.checkpoint = claims.checkpoint
        self.complete = claims.complete
        self.fail = claims.fail
        self.retry = claims.retry
        self.release = claims.release
        self.rescue = claims.rescue

        actions = OperatorActions(table=table, workers=workers, clock=clock, rng=rng)
        self.cancel = actions.cancel
        self.redrive = actions.redrive
        self.reschedule = actions.reschedule
        self.update_status = actions.update_status

        changes = BulkChanges(table=table, actions=actions, workers=workers)
        bulk = BulkRequestActions(
            table=table, producer=producer, actions=actions, changes=changes, rng=rng
        )
        self.enqueue_many = bulk.enqueue_many
        self.cancel_many = bulk.cancel_many
        self.redrive_many = bulk.redrive_many
        self.update_status_many = bulk.update_status_many
        self.delete_many = bulk.delete_many
        self.cancel_by_connection = bulk.cancel_by_connection
        self.delete_by_connection = bulk.delete_by_connection

    async def dequeue(self, limit: int) -> list[Claim]:
        require_limit(limit)
        claims: list[Claim] = []
        pages: list[Callable[..., Awaitable[CandidatePage]]] = [self._high]
        pages += [partial(self.entries, status) for status in WAITING]
        for read in pages:
            cursor = None
            while len(claims) < limit:
                page = await read(limit=_PAGE, cursor=cursor)
                waiting = deque(page.candidates)
                while waiting and len(claims) < limit:
                    count = min(len(waiting), limit - len(claims), _CONCURRENT_CLAIMS)
                    group = [waiting.popleft() for _ in range(count)]
                    if not await self._claim_each(group, claims):
                        return claims
                cursor = page.cursor
                if cursor is None:
                    break
        return claims

    async def _high(self, *, limit: int, cursor: Item | None) -> CandidatePage:
        """Return a page of the high requests that are due. Without DueIndex there are none."""
        now = self._clock.now()
        page = await self.due_entries(Lane.HIGH, until=now, limit=limit, cursor=cursor)
        return page or CandidatePage(candidates=())

    async def _claim_each(self, candidates: Sequence[Candidate], claims: list[Claim]) -> bool:
        """Claim requests at once, add the claims to `claims` in order, and return True.

        After an error, returns False if there are claims, which the caller would lose otherwise.
        """
        outcomes: list[Claim | Exception | None] = [None] * len(candidates)

        async def claim(place: int) -> None:
            try:
                outcomes[place] = await self._try_claim(candidates[place])
            except StoreError as error:
                outcomes[place] = error

        async with anyio.create_task_group() as tasks:
            for place in range(len(candidates)):
                tasks.start_soon(claim, place)
        claims.extend(outcome for outcome in outcomes if isinstance(outcome, Claim))
        errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        if errors and not claims:
            raise errors[0]
        return not errors

    async def _try_claim(self, candidate: Candidate) -> Claim | None:
        try:
            return await self.claim(candidate)
        except Undecodable as error:
            self._decoder.report(error)
        except (RequestNotPending, ConcurrentModification, NotFound, ItemTooLarge):
            pass
        return None
