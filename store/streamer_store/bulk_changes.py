"""Bulk changes of requests: read 100 at a time, and each written if it has not changed since."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from typing import Final

from streamer_store import codec
from streamer_store.bulk import Bulk, Entry, Items
from streamer_store.bulk_results import BulkSummary
from streamer_store.engine import ConditionFailed, Delete
from streamer_store.errors import InvalidInput, NotFound
from streamer_store.operator_actions import Change, OperatorActions, worker_to_notify
from streamer_store.protocols import WorkerRegistry
from streamer_store.request_attributes import unchanged
from streamer_store.request_table import RequestTable
from streamer_store.reserved_ids import is_control_item
from streamer_store.schema import REQUESTS
from streamer_store.transitions import RequestStatus
from streamer_store.validation import require_status
from streamer_store.values import Item
from streamer_store.write_units import write_units

_READ: Final = ("Status", "Version", "WorkerID", "Priority", "CreatedAt", "ConnectionID")
"""The attributes from which a change is made. The units of a write need the whole item."""

ChangeOf = Callable[[str], Change]
IsSelected = Callable[[Item], bool]
_Seen = Callable[[], Awaitable[Item]]
"""Returns a request as it was read."""


class BulkChanges:
    """Changes and deletes requests that were read before."""

    def __init__(
        self, *, table: RequestTable, actions: OperatorActions, workers: WorkerRegistry
    ) -> None:
        self._table = table
        self._engine = table.engine
        self._actions = actions
        self._workers = workers

    async def change(
        self,
        bulk: Bulk[None],
        request_ids: Items[str],
        change_of: ChangeOf,
        is_selected: IsSelected | None = None,
    ) -> BulkSummary[None]:
        """Carry out a change of each request.

        `is_selected`: which requests to change, of those that exist. None: all, and one that does
        not exist is refused.
        """

        async def change_chunk(chunk: Sequence[Entry[str]]) -> None:
            done: list[Entry[str]] = []
            versions: defaultdict[str, list[str]] = defaultdict(list)  # by worker

            async def change_one(position: int, key: str, seen: _Seen) -> None:
                change = change_of(key)

                async def write() -> Item:
                    return await self._actions.carry_out(change, await seen(), bulk.limiter)

                item = await bulk.try_item(position, key, write)
                if item is not None:
                    done.append((position, key))
                    if worker_id := worker_to_notify(change, item):
                        versions[worker_id].append(codec.raw_text(item, "Version"))

            await self._each_seen(bulk, chunk, change_one, is_selected)
            for worker_id, cancelled in versions.items():
                await self._notify(bulk, worker_id, cancelled)
            for position, key in done:
                bulk.finish(position, key)

        return await bulk.run(request_ids, change_chunk)

    async def delete(
        self,
        bulk: Bulk[None],
        request_ids: Items[str],
        statuses: Collection[RequestStatus],
        is_selected: IsSelected | None = None,
    ) -> BulkSummary[None]:
        """Delete the requests that have one of the statuses. For `is_selected` see `change`."""
        allowed = frozenset(map(require_status, statuses))

        async def delete_one(position: int, key: str, seen: _Seen) -> None:
            async def write() -> bool:
                try:
                    item: Item | None = await seen()
                except NotFound:  # it was there before, and a first copy of this write deleted it
                    item = None
                while item is not None:
                    status = codec.raw_text(item, "Status")
                    if status not in allowed:
                        raise self._table.not_pending(bulk.operation, key, status)
                    if bulk.limiter.is_limited:
                        await bulk.limiter.spend(write_units(REQUESTS, item, None))
                    item = await self._delete_unchanged(key, item)
                return True

            if await bulk.try_item(position, key, write):
                bulk.finish(position, key)

        return await bulk.run(
            request_ids, lambda chunk: self._each_seen(bulk, chunk, delete_one, is_selected)
        )

    async def _delete_unchanged(self, key: str, seen: Item) -> Item | None:
        """Delete the request, and return None. If it has changed, return it as it is now."""
        try:
            delete = Delete(table=REQUESTS, key=key, conditions=unchanged(seen))
            await self._engine.delete(delete)
        except ConditionFailed as failed:
            return failed.old
        return None

    async def _each_seen(
        self,
        bulk: Bulk[None],
        chunk: Sequence[Entry[str]],
        work: Callable[[int, str, _Seen], Awaitable[None]],
        is_selected: IsSelected | None,
    ) -> None:
        """Read the requests of a chunk, and call `work` with each that is selected."""
        entries = bulk.valid_keys("request_id", chunk)
        keys = [key for _, key in entries]
        attributes = () if bulk.limiter.is_limited else _READ
        items = await bulk.attempt(
            lambda: self._engine.get_many(REQUESTS, keys, attributes=attributes)
        )
        by_key = {
            codec.raw_text(item, "RequestID"): item for item in items if not is_control_item(item)
        }

        async def work_on(position: int, key: str) -> None:
            item = by_key.get(key)
            if is_selected is not None and (item is None or not is_selected(item)):
                return
            if item is None:
                bulk.refuse(position, key, self._table.not_found(bulk.operation, key))
                return
            await work(position, key, self._seen_first(bulk.operation, key, item))

        await bulk.each(entries, work_on)

    def _seen_first(self, operation: str, key: str, item: Item) -> _Seen:
        """Return a function that returns the item, and from the second call on reads it again."""
        waiting = [item]

        async def seen() -> Item:
            return waiting.pop() if waiting else await self._table.get_item(operation, key)

        return seen

    async def _notify(self, bulk: Bulk[None], worker_id: str, versions: Sequence[str]) -> None:
        # A mailbox of 10,000 Versions is full, and a WorkerID from elsewhere may be no key. The
        # request is cancelled all the same, and its worker meets that at its next write.
        with suppress(InvalidInput):
            await bulk.attempt(lambda: self._workers.request_cancel(worker_id, *versions))
