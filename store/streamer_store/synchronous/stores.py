"""The synchronous stores: the methods of the contracts that producers and web programs use."""

from __future__ import annotations

from operator import attrgetter
from typing import Self

from streamer_store.protocols import ConnectionStore, Pauses, RequestQueue, SubscriptionStore
from streamer_store.stores import Stores
from streamer_store.synchronous.methods import (
    SyncMethods,
    blocking,
    blocking_bulk,
    blocking_iterator,
)
from streamer_store.synchronous.thread import StoresThread
from streamer_store.target import Target


class SyncRequests(SyncMethods):
    """The methods of RequestQueue, except those of workers."""

    enqueue = blocking(RequestQueue.enqueue)
    enqueue_all = blocking(RequestQueue.enqueue_all)
    enqueue_with_subscriptions = blocking(RequestQueue.enqueue_with_subscriptions)
    enqueue_many = blocking_bulk(RequestQueue.enqueue_many)
    get = blocking(RequestQueue.get)
    get_many = blocking(RequestQueue.get_many)
    get_by_connection = blocking_iterator(RequestQueue.get_by_connection)
    get_by_status = blocking_iterator(RequestQueue.get_by_status)
    depth = blocking(RequestQueue.depth)
    cancel = blocking(RequestQueue.cancel)
    cancel_many = blocking_bulk(RequestQueue.cancel_many)
    cancel_by_connection = blocking_bulk(RequestQueue.cancel_by_connection)
    redrive = blocking(RequestQueue.redrive)
    reschedule = blocking(RequestQueue.reschedule)
    redrive_many = blocking_bulk(RequestQueue.redrive_many)
    update_status = blocking(RequestQueue.update_status)
    update_status_many = blocking_bulk(RequestQueue.update_status_many)
    delete = blocking(RequestQueue.delete)
    delete_many = blocking_bulk(RequestQueue.delete_many)
    delete_by_connection = blocking_bulk(RequestQueue.delete_by_connection)


class SyncConnections(SyncMethods):
    """The methods of ConnectionStore."""

    save = blocking(ConnectionStore.save)
    save_many = blocking_bulk(ConnectionStore.save_many)
    get = blocking(ConnectionStore.get)
    get_many = blocking(ConnectionStore.get_many)
    list_by_user = blocking(ConnectionStore.list_by_user)
    list_by_tenant = blocking(ConnectionStore.list_by_tenant)
    list_all = blocking_iterator(ConnectionStore.list_all)
    update_last_ping = blocking(ConnectionStore.update_last_ping)
    delete = blocking(ConnectionStore.delete)
    delete_many = blocking_bulk(ConnectionStore.delete_many)
    delete_stale = blocking(ConnectionStore.delete_stale)
    sweep_stale = blocking(ConnectionStore.sweep_stale)


class SyncSubscriptions(SyncMethods):
    """The methods of SubscriptionStore."""

    subscribe = blocking(SubscriptionStore.subscribe)
    unsubscribe = blocking(SubscriptionStore.unsubscribe)
    save_many = blocking_bulk(SubscriptionStore.save_many)
    delete_many = blocking_bulk(SubscriptionStore.delete_many)
    get_by_connection = blocking(SubscriptionStore.get_by_connection)
    get_by_request = blocking(SubscriptionStore.get_by_request)
    any_exist = blocking(SubscriptionStore.any_exist)
    delete_by_connection = blocking(SubscriptionStore.delete_by_connection)


class SyncPauses(SyncMethods):
    """The methods of Pauses, except those of workers."""

    read_all = blocking(Pauses.read_all)
    start = blocking(Pauses.start)
    extend = blocking(Pauses.extend)
    end = blocking(Pauses.end)


class SyncStores(SyncMethods):
    """The stores of one deployment, for programs without an event loop.

    Every method may be called from any thread that runs no event loop, and by many threads at
    once. It waits for the result. Bulk operations read their items, and call `on_result`, in the
    thread of the caller. An iterator reads page by page, and stops reading once it is closed or
    dropped. If a wait is interrupted by KeyboardInterrupt, that call is cancelled: a write may or
    may not have taken effect. The stores remain usable.

    A forked child opens stores of its own with its first call. An iterator cannot be continued
    there.
    """

    requests: SyncRequests
    """The queue of requests."""
    connections: SyncConnections
    """Open WebSocket connections."""
    subscriptions: SyncSubscriptions
    """Which connections receive messages about which requests."""
    pauses: SyncPauses
    """What is paused."""
    disconnect = blocking(Stores.disconnect)
    create_tables = blocking(Stores.create_tables)
    check_tables = blocking(Stores.check_tables)
    account = blocking(Stores.account)

    def __init__(self, thread: StoresThread) -> None:
        super().__init__(thread, _itself)
        self.requests = SyncRequests(thread, attrgetter("requests"))
        self.connections = SyncConnections(thread, attrgetter("connections"))
        self.subscriptions = SyncSubscriptions(thread, attrgetter("subscriptions"))
        self.pauses = SyncPauses(thread, attrgetter("pauses"))

    @property
    def target(self) -> Target | None:
        """The address of the database. None: the stores are in memory."""
        return self._thread.stores().target

    def close(self) -> None:
        """Close the stores. Calls under way raise StoreUnavailable. May be called again.

        A program that ends closes them by itself.
        """
        self._thread.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _itself(stores: Stores) -> Stores:
    return stores
