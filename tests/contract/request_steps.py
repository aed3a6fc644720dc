"""Helpers that bring a request into the state that a test needs."""

from __future__ import annotations

from typing import Any

from streamer_store import AsyncRequest, Candidate, Claim, Stores
from streamer_store.engine import Put
from streamer_store.schema import REQUESTS
from streamer_store.transitions import WAITING
from streamer_store.values import Item


async def candidate(stores: Stores, request_id: str) -> Candidate:
    """Return the entry of a waiting request in StatusIndex."""
    for status in WAITING:
        page = await stores.requests.entries(status, limit=1000)
        for entry in page.candidates:
            if entry.request_id == request_id:
                return entry
    raise AssertionError(f"{request_id} is not waiting")


async def claimed(
    stores: Stores, request_id: str = "r1", *, worker_id: str | None = "w1", **fields: Any
) -> Claim:
    """Enqueue a request and claim it."""
    await stores.requests.enqueue(AsyncRequest(action="echo", request_id=request_id, **fields))
    return await reclaimed(stores, request_id, worker_id=worker_id)


async def reclaimed(
    stores: Stores, request_id: str = "r1", *, worker_id: str | None = "w1"
) -> Claim:
    """Claim a waiting request."""
    return await stores.requests.claim(await candidate(stores, request_id), worker_id=worker_id)


async def raw(stores: Stores, request_id: str = "r1") -> Item:
    """Return the stored item of a request."""
    item = await stores.engine.get(REQUESTS, request_id)
    assert item is not None
    return item


async def put_raw(stores: Stores, item: Item) -> None:
    await stores.engine.put(Put(table=REQUESTS, item=item))
