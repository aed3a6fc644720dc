"""The synchronous stores, in memory and on DynamoDB Local."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

from streamer_store import (
    AlreadyExists,
    AsyncRequest,
    BulkResult,
    EventType,
    NotFound,
    Pause,
    PauseKind,
    RequestStatus,
    SomeRefused,
    StoreError,
    Subscription,
    SyncStores,
    ValidationError,
    memory_stores_sync,
    open_stores_sync,
)
from streamer_store.protocols import ConnectionStore, RequestQueue, SubscriptionStore
from support import ManualClock, connection, unique_prefix

# Only workers call them.
OF_WORKERS = {
    *("entries", "due_entries", "lane_depths", "correct_lane", "claim", "dequeue"),
    *("update_progress", "checkpoint", "complete", "fail", "retry", "release", "rescue"),
}


def test_a_pause_is_started_and_ended(sync_stores: SyncStores) -> None:
    """By a program without an event loop."""
    now = datetime.now(UTC)
    pause = Pause(kind=PauseKind.ACTION, name="report", by="ann@desk", at=now)
    assert sync_stores.pauses.start(pause) is None
    (found,) = sync_stores.pauses.read_all()
    assert found == pause
    assert not sync_stores.pauses.extend(pause)
    assert sync_stores.pauses.end(found)


@pytest.fixture(scope="module")
def local(local_url: str) -> Iterator[SyncStores]:
    with open_stores_sync(endpoint_url=local_url, prefix=unique_prefix()) as opened:
        opened.create_tables()
        yield opened


@pytest.fixture(params=["memory", pytest.param("local", marks=pytest.mark.local)])
def sync_stores(request: pytest.FixtureRequest) -> Iterator[SyncStores]:
    if request.param == "memory":
        with memory_stores_sync() as opened:
            yield opened
        return
    opened = request.getfixturevalue("local")
    yield opened
    ids = [
        each.request_id
        for status in RequestStatus
        for each in opened.requests.get_by_status(status)
    ]
    opened.requests.delete_many(ids)


def new(number: int) -> AsyncRequest:
    return AsyncRequest(action="echo", request_id=f"r{number}", payload={"n": number})


def test_a_request_is_stored_read_cancelled_and_deleted(sync_stores: SyncStores) -> None:
    """The results and the errors are those of the asynchronous stores."""
    queue = sync_stores.requests
    stored = queue.enqueue(new(1))
    assert queue.get("r1") == stored
    with pytest.raises(AlreadyExists) as taken:
        queue.enqueue(new(1))
    assert taken.value.key == "r1"
    with pytest.raises(ValidationError, match="request_id"):
        queue.get("")
    assert queue.cancel("r1").status is RequestStatus.CANCELLED
    assert queue.redrive("r1").status is RequestStatus.PENDING
    queue.delete("r1")
    with pytest.raises(NotFound):
        queue.get("r1")


def test_transactions_take_iterators(sync_stores: SyncStores) -> None:
    """Here a generator, which is read in the caller's thread."""
    caller = threading.get_ident()

    def requests() -> Iterator[AsyncRequest]:
        for number in range(3):
            assert threading.get_ident() == caller
            yield new(number)

    stored = sync_stores.requests.enqueue_all(requests())
    assert [each.request_id for each in stored] == ["r0", "r1", "r2"]
    assert list(sync_stores.requests.get_many(iter(["r2", "r9"]))) == ["r2"]


def test_connections_subscriptions_and_disconnect(sync_stores: SyncStores) -> None:
    """What a router without an event loop needs."""
    now = datetime.now(UTC)
    sync_stores.connections.save(connection("c1", connected_at=now))
    assert sync_stores.connections.get("c1").user_id == "u"
    request = sync_stores.requests.enqueue_with_subscriptions(
        AsyncRequest(action="echo", connection_id="c1"), {"c1": [EventType.COMPLETE]}
    )
    sync_stores.subscriptions.subscribe("c1", "other")
    kept = sync_stores.subscriptions.save_many(
        [Subscription(connection_id="c2", request_id=request.request_id)]
    )
    assert kept.done == 1
    assert sync_stores.disconnect("c1", cancel_requests=True).subscriptions == 2
    with pytest.raises(NotFound):
        sync_stores.connections.get("c1")
    sync_stores.connections.delete("c1")
    sync_stores.subscriptions.unsubscribe("c2", request.request_id)


def test_bulk_operations_read_and_report_in_the_callers_thread(sync_stores: SyncStores) -> None:
    """An iterator of a database driver may be used in one thread only."""
    threads: set[int] = set()
    results: list[BulkResult[AsyncRequest]] = []

    def requests() -> Iterator[AsyncRequest]:
        for number in range(260):
            threads.add(threading.get_ident())
            yield new(number)

    def on_result(result: BulkResult[AsyncRequest]) -> None:
        threads.add(threading.get_ident())
        results.append(result)

    summary = sync_stores.requests.enqueue_many(requests=requests(), on_result=on_result)
    assert (summary.done, len(results)) == (260, 260)
    assert threads == {threading.get_ident()}
    with pytest.raises(SomeRefused):
        sync_stores.requests.enqueue_many([new(1)])


def test_an_iterator_is_read_only_as_far_as_it_is_needed(sync_stores: SyncStores) -> None:
    """A bulk operation holds a bounded number of items."""
    handed_out = finished = 0
    most = 0

    def requests() -> Iterator[AsyncRequest]:
        nonlocal handed_out, most
        for number in range(3_000):
            handed_out += 1
            most = max(most, handed_out - finished)
            yield new(number)

    def on_result(_: object) -> None:
        nonlocal finished
        finished += 1

    sync_stores.requests.enqueue_many(requests(), on_result=on_result)
    assert finished == 3_000
    assert most <= 1_000


class BrokenError(Exception):
    pass


def test_errors_of_the_caller_end_a_bulk_operation(sync_stores: SyncStores) -> None:
    """Of its iterator, and of `on_result`. The stores remain usable."""

    def broken() -> Iterator[AsyncRequest]:
        yield new(1)
        raise BrokenError

    def refuse(_: object) -> None:
        raise BrokenError

    with pytest.raises(BrokenError):
        sync_stores.requests.enqueue_many(broken())
    with pytest.raises(BrokenError):
        sync_stores.requests.enqueue_many(map(new, range(10_000, 10_500)), on_result=refuse)
    assert sync_stores.requests.enqueue(new(1_000)).request_id == "r1000"


def test_lists_are_ordinary_iterators(sync_stores: SyncStores) -> None:
    """They end by themselves, and when the loop is left early."""
    sync_stores.requests.enqueue_many([new(number) for number in range(250)])
    pending = sync_stores.requests.get_by_status
    listed = [each.request_id for each in pending(RequestStatus.PENDING)]
    assert {f"r{number}" for number in range(250)} <= set(listed)
    assert len(listed) == len(set(listed))
    assert len(list(pending(RequestStatus.PENDING, limit=7))) == 7
    for _ in pending(RequestStatus.PENDING):
        break
    with pytest.raises(ValidationError, match="limit"):
        next(pending(RequestStatus.PENDING, limit=0))


def test_many_threads_call_at_once(sync_stores: SyncStores) -> None:
    """Each gets its own result."""
    with ThreadPoolExecutor(16) as pool:
        stored = list(pool.map(sync_stores.requests.enqueue, map(new, range(200))))
    assert [each.request_id for each in stored] == [f"r{number}" for number in range(200)]


@pytest.mark.anyio
async def test_a_call_in_an_event_loop_is_refused(sync_stores: SyncStores) -> None:
    """It would block the loop. A worker thread of the loop may call."""
    with pytest.raises(StoreError, match="synchronous, and would block the event loop"):
        sync_stores.requests.enqueue(new(1))
    with pytest.raises(StoreError, match="synchronous"):
        next(sync_stores.requests.get_by_status(RequestStatus.PENDING))
    stored = await anyio.to_thread.run_sync(sync_stores.requests.enqueue, new(1))
    assert stored.request_id == "r1"


class ClosingClock(ManualClock):
    """A clock that closes the stores that ask for the time."""

    stores: SyncStores | None = None

    def now(self) -> datetime:
        if self.stores is not None:
            self.stores.close()
        return super().now()


def test_code_that_the_stores_call_cannot_close_them() -> None:
    """It runs in the thread for whose end `close` waits. They stay open."""
    clock = ClosingClock()
    with memory_stores_sync(clock=clock) as stores:
        clock.stores = stores
        with pytest.raises(StoreError, match="waits for the thread that called it"):
            stores.requests.enqueue(AsyncRequest(action="echo"))
        clock.stores = None
        stores.requests.enqueue(AsyncRequest(action="echo"))


def test_closed_stores_refuse_calls() -> None:
    """The error says so. Closing twice is no error."""
    stores = memory_stores_sync()
    stores.requests.enqueue_many([new(number) for number in range(20)])
    begun = stores.requests.get_by_status(RequestStatus.PENDING)
    next(begun)
    stores.close()
    stores.close()
    with pytest.raises(StoreError, match="these stores are closed"):
        stores.requests.get("r1")
    begun.close()


@pytest.mark.parametrize(
    ("contract", "name"),
    [
        (RequestQueue, "requests"),
        (ConnectionStore, "connections"),
        (SubscriptionStore, "subscriptions"),
    ],
)
def test_no_method_is_forgotten(contract: Any, name: str) -> None:
    """A new method of a contract has its synchronous form, with its parameters and docstring."""
    with memory_stores_sync() as stores:
        store = getattr(stores, name)
        for method, function in inspect.getmembers(contract, inspect.isfunction):
            if method.startswith("_") or method in OF_WORKERS:
                continue
            sync = getattr(store, method)
            assert (
                list(inspect.signature(sync).parameters)
                == list(inspect.signature(function).parameters)[1:]
            )
            assert sync.__doc__ == function.__doc__
            assert not inspect.iscoroutinefunction(sync)


def test_the_parameters_are_those_of_open_stores() -> None:
    """A wrong name is a TypeError at once."""
    with pytest.raises(TypeError, match="prefxi"):
        open_stores_sync(prefxi="x")  # type: ignore[call-arg]
