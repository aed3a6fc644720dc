"""The requests that a command selects, from StatusIndex or from those of a connection."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Iterable
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from streamer_store import AsyncRequest, Candidate, RequestQueue, RequestStatus

_PAGE: Final = 500
_UNKNOWN: Final = datetime.min.replace(tzinfo=UTC)
Entry = AsyncRequest | Candidate


class Selected(NamedTuple):
    """The ids of the requests that match, and whether there are more than the limit."""

    ids: list[str]
    more: bool


class RequestFilter:
    """Selects requests. None selects all."""

    def __init__(
        self,
        *,
        action: str | None = None,
        tenant: str | None = None,
        connection: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> None:
        self._action = action
        self._tenant = tenant
        self._connection = connection
        self._since = since
        self._until = until

    @property
    def is_empty(self) -> bool:
        """Whether it selects all requests."""
        parts = (self._action, self._tenant, self._connection, self._since, self._until)
        return all(part is None for part in parts)

    async def ids(
        self,
        requests: RequestQueue,
        statuses: Iterable[RequestStatus],
        limit: int,
        *,
        newest_first: bool = True,
    ) -> Selected:
        """Return the ids of up to `limit` matching requests: of each status the newest, or oldest.

        Those of a connection are always the newest.
        """
        ids: list[str] = []
        for status in statuses:
            async with aclosing(
                self.entries(requests, status, newest_first=newest_first)
            ) as entries:
                async for entry in entries:
                    if len(ids) == limit:
                        return Selected(ids, more=True)
                    ids.append(entry.request_id)
        return Selected(ids, more=False)

    async def entries(
        self, requests: RequestQueue, status: RequestStatus, *, newest_first: bool = True
    ) -> AsyncGenerator[Entry]:
        """Yield the matching requests in `status`."""
        source = (
            _by_status(requests, status, self._since, newest_first=newest_first)
            if self._connection is None
            else _by_connection(requests, status, self._connection)
        )
        async with aclosing(source) as entries:
            async for entry in entries:
                if self._matches(entry):
                    yield entry

    async def newest_first(
        self, requests: RequestQueue, statuses: Collection[RequestStatus]
    ) -> AsyncGenerator[Entry]:
        """Yield the matching requests of several statuses, newest first.

        A request that changes its status meanwhile may be missing, or be there twice.
        """
        if self._connection is not None:
            async with aclosing(requests_of(requests, self._connection)) as of_connection:
                async for request in of_connection:
                    if request.status in statuses and self._matches(request):
                        yield request
            return
        async with AsyncExitStack() as closing:
            sources = [
                await closing.enter_async_context(aclosing(self.entries(requests, status)))
                for status in statuses
            ]
            heads = [(source, await anext(source, None)) for source in sources]
            while waiting := [(source, entry) for source, entry in heads if entry is not None]:
                newest, entry = max(waiting, key=lambda head: creation_of(head[1]))
                yield entry
                heads = [head for head in waiting if head[0] is not newest]
                heads.append((newest, await anext(newest, None)))

    def _matches(self, entry: Entry) -> bool:
        if self._action not in {None, entry.action} or self._tenant not in {None, entry.tenant_id}:
            return False
        if self._since is None and self._until is None:
            return True
        created_at = entry.created_at
        if created_at is None:
            return self._until is None
        is_before = self._since is not None and created_at < self._since
        return not is_before and (self._until is None or created_at <= self._until)


def creation_of(entry: Entry) -> datetime:
    """Return the time by which requests are sorted. The earliest there is, if it is unknown."""
    return entry.created_at or _UNKNOWN


async def requests_of(requests: RequestQueue, connection_id: str) -> AsyncGenerator[AsyncRequest]:
    """Yield the requests of a connection, newest first."""
    async for request in requests.get_by_connection(connection_id):
        yield request


async def _by_status(
    requests: RequestQueue, status: RequestStatus, since: datetime | None, *, newest_first: bool
) -> AsyncGenerator[Entry]:
    cursor: Any = None
    while True:
        page = await requests.entries(
            status, limit=_PAGE, cursor=cursor, since=since, newest_first=newest_first
        )
        for entry in page.candidates:
            yield entry
        cursor = page.cursor
        if cursor is None:
            return


async def _by_connection(
    requests: RequestQueue, status: RequestStatus, connection_id: str
) -> AsyncGenerator[Entry]:
    async with aclosing(requests_of(requests, connection_id)) as entries:
        async for request in entries:
            if request.status is status:
                yield request
