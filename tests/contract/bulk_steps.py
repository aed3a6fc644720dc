"""Steps of the tests of bulk operations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

from streamer_store import (
    AsyncRequest,
    BulkResult,
    Stores,
)


def new(request_id: str, **fields: Any) -> AsyncRequest:
    return AsyncRequest(action="echo", request_id=request_id, **fields)


async def statuses(stores: Stores, *request_ids: str) -> list[str]:
    found = await stores.requests.get_many(request_ids)
    return [found[request_id].status.value for request_id in request_ids if request_id in found]


def errors_of(results: Iterable[BulkResult[Any]]) -> dict[str, type[Exception] | None]:
    return {result.key: None if result.error is None else type(result.error) for result in results}


async def endless(*keys: Any) -> AsyncIterator[Any]:
    for key in keys:
        yield key
