"""Removing a connection with all that refers to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import anyio

from streamer_store.engine import MAX_TRANSACTION_PARTS, Delete, Engine
from streamer_store.errors import NotFound, RequestNotPending, ungrouped
from streamer_store.protocols import RequestQueue
from streamer_store.schema import CONNECTIONS, SUBSCRIPTIONS
from streamer_store.subscriptions import keys_by_connection
from streamer_store.transitions import WAITING, RequestStatus
from streamer_store.validation import require_text

_TOGETHER: Final = MAX_TRANSACTION_PARTS - 1
_CONCURRENT_CANCELS: Final = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnected:
    """What was removed with a connection."""

    subscriptions: int = 0
    """Subscriptions that the index listed, and that are deleted now."""
    cancelled: int = 0
    """Requests that waited and are cancelled now, by this call or by another at the same time."""


async def disconnect(
    engine: Engine, requests: RequestQueue, connection_id: str, *, cancel_requests: bool
) -> Disconnected:
    """Implement `Stores.disconnect`."""
    require_text("connection_id", connection_id)
    keys = await keys_by_connection(engine, connection_id)
    if len(keys) > _TOGETHER:
        await engine.delete_many(SUBSCRIPTIONS, keys[_TOGETHER:])
    await _delete_together(engine, connection_id, keys[:_TOGETHER])
    cancelled = await _cancel_waiting(requests, connection_id) if cancel_requests else 0
    return Disconnected(subscriptions=len(keys), cancelled=cancelled)


async def _delete_together(engine: Engine, connection_id: str, keys: Sequence[str]) -> None:
    connection = Delete(table=CONNECTIONS, key=connection_id)
    if keys:
        subscriptions = [Delete(table=SUBSCRIPTIONS, key=key) for key in keys]
        await engine.transact([connection, *subscriptions])
    else:  # half the price
        await engine.delete(connection)


async def _cancel_waiting(requests: RequestQueue, connection_id: str) -> int:
    """Cancel the requests that wait. Those that run or have ended are kept."""
    cancelled = 0
    limiter = anyio.CapacityLimiter(_CONCURRENT_CANCELS)

    async def cancel(request_id: str) -> None:
        nonlocal cancelled
        try:
            await requests.update_status(request_id, RequestStatus.CANCELLED)
            cancelled += 1
        except (NotFound, RequestNotPending):
            pass
        finally:
            limiter.release_on_behalf_of(request_id)

    with ungrouped():
        async with anyio.create_task_group() as tasks:
            async for request in requests.get_by_connection(connection_id):
                if request.status in WAITING:
                    await limiter.acquire_on_behalf_of(request.request_id)
                    tasks.start_soon(cancel, request.request_id)
    return cancelled
