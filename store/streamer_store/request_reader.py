"""Reading requests: by id, and by the two indexes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from streamer_store import codec
from streamer_store.bulk import Items, numbered
from streamer_store.engine import Query
from streamer_store.models import AsyncRequest
from streamer_store.protocols import CandidatePage, Depth
from streamer_store.request_table import RequestTable
from streamer_store.reserved_ids import is_control_item
from streamer_store.schema import REQUESTS, Index
from streamer_store.times import parse_time, text_after, text_before
from streamer_store.transitions import RequestStatus
from streamer_store.validation import require_limit, require_status, require_text, require_time
from streamer_store.values import Item

if TYPE_CHECKING:
    from datetime import datetime

_PAGE: Final = 100
_BY_CONNECTION: Final = REQUESTS.index("ConnectionIndex")
_BY_STATUS: Final = REQUESTS.index("StatusIndex")


class RequestReader:
    """The methods of RequestQueue that only read."""

    def __init__(self, *, table: RequestTable) -> None:
        self._table = table
        self._engine = table.engine

    async def get(self, request_id: str) -> AsyncRequest:
        item = await self._table.get_item("get", request_id)
        return self._table.decoder.decode_one("get", item)

    async def get_many(self, request_ids: Items[str]) -> dict[str, AsyncRequest]:
        keys = list(dict.fromkeys([key async for _, key in numbered(request_ids)]))
        for key in keys:
            require_text("request_id", key)
        records = {}
        items = await self._engine.get_many(REQUESTS, keys)
        requests = (item for item in items if not is_control_item(item))
        for record in self._table.decoder.decode_all(requests):
            records[record.request_id] = record
        return {key: records[key] for key in keys if key in records}

    async def entries(
        self,
        status: RequestStatus,
        *,
        limit: int,
        cursor: Item | None = None,
        since: datetime | None = None,
        newest_first: bool = False,
    ) -> CandidatePage:
        if since is not None:
            require_time("since", since)
        page = await self._engine.query(
            Query(
                table=REQUESTS,
                index=_BY_STATUS,
                value=require_status(status).value,
                at_least=None if since is None else {"S": text_before(since)},
                ascending=not newest_first,
                limit=require_limit(limit),
                exclusive_start_key=cursor,
            )
        )
        candidates = [codec.candidate(item) for item in page.items]
        if since is not None:
            # Text with an offset sorts up to a day away from its moment.
            candidates = [
                candidate
                for candidate in candidates
                if candidate.created_at is None or candidate.created_at >= since
            ]
        return CandidatePage(candidates=candidates, cursor=page.last_evaluated_key)

    async def depth(self, status: RequestStatus, *, limit: int) -> Depth:
        value = require_status(status).value
        require_limit(limit)
        count, cursor = 0, None
        oldest = _Oldest()
        while True:
            page = await self._engine.query(
                Query(
                    table=REQUESTS,
                    index=_BY_STATUS,
                    value=value,
                    count_only=oldest.is_final,
                    attributes=() if oldest.is_final else ("CreatedAt",),
                    limit=limit - count,
                    exclusive_start_key=cursor,
                )
            )
            oldest.add(page.items)
            count, cursor = count + page.count, page.last_evaluated_key
            if cursor is None or count >= limit:
                break
        return Depth(count=count, more=cursor is not None, oldest=oldest.moment)

    async def get_by_connection(
        self, connection_id: str, *, limit: int | None = None
    ) -> AsyncIterator[AsyncRequest]:
        require_text("connection_id", connection_id)
        async for record in self._list(_BY_CONNECTION, connection_id, limit, ascending=False):
            if record.connection_id == connection_id:
                yield record

    async def get_by_status(
        self, status: RequestStatus, *, limit: int | None = None
    ) -> AsyncIterator[AsyncRequest]:
        value = require_status(status).value
        async for record in self._list(_BY_STATUS, value, limit, ascending=True):
            yield record

    async def _list(
        self, index: Index, value: str, limit: int | None, *, ascending: bool
    ) -> AsyncIterator[AsyncRequest]:
        """Yield the requests of an index partition, read whole and consistently from the table.

        The indexes project few attributes, and lag.
        """
        left = None if limit is None else require_limit(limit)
        after = None
        while left is None or left > 0:
            size = _PAGE if left is None else min(left, _PAGE)
            query = Query(
                table=REQUESTS,
                index=index,
                value=value,
                ascending=ascending,
                limit=size,
                exclusive_start_key=after,
            )
            page = await self._engine.query(query)
            keys = [codec.raw_text(item, "RequestID") for item in page.items]
            for record in (await self.get_many(keys)).values():
                if index is _BY_STATUS and record.status.value != value:
                    continue
                yield record
                left = None if left is None else left - 1
            after = page.last_evaluated_key
            if after is None:
                return


class _Oldest:
    """The oldest CreatedAt of a status, from pages of entries in the order of its text.

    Text with an offset sorts up to a day away from its moment, so the first entry need not be
    the oldest.
    """

    def __init__(self) -> None:
        self.moment: datetime | None = None
        """The oldest moment so far. None: there is none."""
        self.is_final = False
        """Whether no later entry can be older."""

    def add(self, items: Iterable[Item]) -> None:
        """Take the next page of entries into account."""
        text = ""
        for item in items:
            text = codec.raw_text(item, "CreatedAt")
            with suppress(ValueError):  # the claim of the request reports it
                moment = parse_time(text)
                if moment is not None and (self.moment is None or moment < self.moment):
                    self.moment = moment
        self.is_final = self.is_final or (
            self.moment is not None and text > text_after(self.moment)
        )
