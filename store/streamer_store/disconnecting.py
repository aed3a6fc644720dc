"""Removing a connection with all that refers to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from streamer_store.engine import MAX_TRANSACTION_PARTS, Delete, Engine
from streamer_store.protocols import RequestQueue
from streamer_store.schema import CONNECTIONS, SUBSCRIPTIONS
from streamer_store.subscriptions import keys_by_connection
from streamer_store.validation import require_text

_TOGETHER: Final = MAX_TRANSACTION_PARTS - 1


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
    cancelled = 0
    if cancel_requests:
        # A request that has been claimed, or has ended meanwhile, is refused.
        summary = await requests.cancel_by_connection(
            connection_id, running=False, on_result=lambda _: None
        )
        cancelled = summary.done
    return Disconnected(subscriptions=len(keys), cancelled=cancelled)


async def _delete_together(engine: Engine, connection_id: str, keys: Sequence[str]) -> None:
    connection = Delete(table=CONNECTIONS, key=connection_id)
    if keys:
        subscriptions = [Delete(table=SUBSCRIPTIONS, key=key) for key in keys]
        await engine.transact([connection, *subscriptions])
    else:  # half the price
        await engine.delete(connection)
