"""The stores for programs without an event loop, such as Flask and Django."""

from streamer_store.synchronous.opening import memory_stores_sync, open_stores_sync
from streamer_store.synchronous.stores import (
    SyncConnections,
    SyncPauses,
    SyncRequests,
    SyncStores,
    SyncSubscriptions,
)

__all__ = [
    "SyncConnections",
    "SyncPauses",
    "SyncRequests",
    "SyncStores",
    "SyncSubscriptions",
    "memory_stores_sync",
    "open_stores_sync",
]
