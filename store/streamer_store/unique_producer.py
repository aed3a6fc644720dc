"""Storing requests that have a unique key.

Invariants (docs/invariants.md): UNIQUE-1. A key never has two requests that wait or run, and none
in the window of one that is COMPLETED.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from streamer_store import writes
from streamer_store.clock import Clock
from streamer_store.engine import (
    MAX_TRANSACTION_PARTS,
    ConditionFailed,
    Delete,
    Put,
    TransactionFailed,
)
from streamer_store.errors import ConcurrentModification
from streamer_store.models import AsyncRequest
from streamer_store.new_request import NewRequest
from streamer_store.request_table import RequestTable
from streamer_store.schema import SUBSCRIPTIONS
from streamer_store.subscriptions import keys_by_request
from streamer_store.unique_conflicts import Answer, answer_to, replacement
from streamer_store.unique_keys import Enqueued, OnConflict
from streamer_store.values import Item

_MAX_TRIES: Final = 100
"""Each try fails only if another producer's write has taken effect."""
_TOGETHER: Final = MAX_TRANSACTION_PARTS - 1
RUN: Final = "UniqueRun"
"""The attribute that keeps the Version of the put, whatever becomes of the request."""


@dataclass(frozen=True, slots=True)
class _Try:
    """A put, and the request that it stores."""

    record: AsyncRequest
    put: Put
    renews: bool = False
    """Whether it takes the place of a request that has ended."""


class UniqueProducer:
    """Stores requests that have a unique key. `encode`: returns the item of a new request."""

    def __init__(
        self, *, table: RequestTable, clock: Clock, encode: Callable[[AsyncRequest], Item]
    ) -> None:
        self._table = table
        self._engine = table.engine
        self._clock = clock
        self._encode = encode

    async def store(self, operation: str, new: NewRequest, on_conflict: OnConflict) -> AsyncRequest:
        """Store a new request, or return the one that its key has. `enqueued` says which.

        Each write requires that there is no item, or the Version seen: never a status alone. So
        no copy of it that arrives late takes effect.

        Raises Undecodable, if the item under its id cannot be read; ConcurrentModification, if it
        changes all the time; ItemTooLarge.
        """
        record = new.record
        first = current = _Try(record, writes.enqueue(new.item))
        for _ in range(_MAX_TRIES):
            try:
                await self._write(current)
            except ConditionFailed as failed:
                seen = failed.old
            else:
                return current.record
            if seen is None:  # it was deleted, by TTL for example
                current = first
            elif seen.get(RUN) == {"S": record.version}:
                # VERSION-2: a first copy took effect. The run may have begun or ended since.
                return current.record
            else:
                with self._table.decoder.located(operation):
                    answer = answer_to(seen, record, on_conflict, self._clock.now())
                if answer is Answer.KEEP:
                    kept = self._table.decoder.decode_one(operation, seen)
                    return replace(kept, enqueued=Enqueued.EXISTS)
                current = self._next(answer, seen, new)
        where = self._table.location(operation, record.request_id)
        raise ConcurrentModification("the request keeps changing", **where)

    def _next(self, answer: Answer, seen: Item, new: NewRequest) -> _Try:
        record = new.record
        if answer is Answer.RENEW:
            return _Try(record, writes.enqueue_over(seen, self._encode(record)), renews=True)
        replaced = replacement(seen, record, self._clock.now(), delay=new.delay)
        replaced = replace(replaced, enqueued=Enqueued.REPLACED)
        return _Try(replaced, writes.enqueue_over(seen, self._encode(replaced)))

    async def _write(self, current: _Try) -> None:
        """Write the put. Raises ConditionFailed.

        The subscriptions of a run that has ended are deleted together with the put that starts
        the next one. So a producer that loses the race deletes no subscription to the new run.
        """
        keys = []
        if current.renews:
            keys = await keys_by_request(self._engine, current.record.request_id)
        if not keys:
            await self._engine.put(current.put)
            return
        if len(keys) > _TOGETHER:
            await self._engine.delete_many(SUBSCRIPTIONS, keys[_TOGETHER:])
        deletes = [Delete(table=SUBSCRIPTIONS, key=key) for key in keys[:_TOGETHER]]
        try:
            await self._engine.transact([current.put, *deletes])
        except TransactionFailed as failed:
            raise ConditionFailed(failed.old[0]) from None
