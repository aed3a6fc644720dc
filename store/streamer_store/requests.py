"""The request queue over any engine, put together from its parts."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from streamer_store.claims import ClaimWriter
from streamer_store.clock import Clock
from streamer_store.decoding import Report
from streamer_store.engine import Engine
from streamer_store.errors import (
    ConcurrentModification,
    ItemTooLarge,
    NotFound,
    RequestNotPending,
    Undecodable,
)
from streamer_store.lane_reader import LaneReader
from streamer_store.models import Candidate, Claim
from streamer_store.operator_actions import OperatorActions
from streamer_store.protocols import WorkerRegistry
from streamer_store.request_producer import RequestProducer
from streamer_store.request_reader import RequestReader
from streamer_store.request_table import RequestTable
from streamer_store.transitions import WAITING, RequestStatus
from streamer_store.validation import require_limit

if TYPE_CHECKING:
    import random

_PAGE: Final = 100


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
    ) -> None:
        table = RequestTable(engine=engine, report=report)
        self._decoder = table.decoder

        producer = RequestProducer(table=table, clock=clock, rng=rng)
        self.enqueue = producer.enqueue
        self.enqueue_many = producer.enqueue_many
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
        self.update_status = actions.update_status

    async def dequeue(self, limit: int) -> list[Claim]:
        require_limit(limit)
        claims: list[Claim] = []
        for status in WAITING:
            async with aclosing(self._candidates(status)) as candidates:
                async for candidate in candidates:
                    if len(claims) == limit:
                        return claims
                    claim = await self._try_claim(candidate)
                    if claim is not None:
                        claims.append(claim)
        return claims

    async def _candidates(self, status: RequestStatus) -> AsyncGenerator[Candidate, None]:
        cursor = None
        while True:
            page = await self.entries(status, limit=_PAGE, cursor=cursor)
            for candidate in page.candidates:
                yield candidate
            cursor = page.cursor
            if cursor is None:
                return

    async def _try_claim(self, candidate: Candidate) -> Claim | None:
        try:
            return await self.claim(candidate)
        except Undecodable as error:
            self._decoder.report(error)
        except (RequestNotPending, ConcurrentModification, NotFound, ItemTooLarge):
            pass
        return None
