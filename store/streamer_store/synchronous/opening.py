"""Open the synchronous stores."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, ParamSpec

from streamer_store.clock import Clock
from streamer_store.decoding import Report
from streamer_store.dynamo.opening import open_stores
from streamer_store.errors import InvalidInput
from streamer_store.retention import Retention
from streamer_store.stores import Stores, log_undecodable, memory_stores
from streamer_store.synchronous.stores import SyncStores
from streamer_store.synchronous.thread import StoresThread

Parameters = ParamSpec("Parameters")


def _with_parameters_of(
    _opener: Callable[Parameters, AbstractAsyncContextManager[Stores]],
) -> Callable[[Callable[..., SyncStores]], Callable[Parameters, SyncStores]]:
    """Let type checkers and editors know the parameters of a function that passes them on."""
    return lambda function: function


@_with_parameters_of(open_stores)
def open_stores_sync(**parameters: Any) -> SyncStores:
    """Open the stores on DynamoDB for a program without an event loop: Flask, Django, Lambda.

    One event loop runs on a thread of its own until the stores are closed, and the client keeps
    its connections. Open them once per process, at the start or in a module, and use them from
    any thread. They need not be closed. As a context manager they are closed at its end.

    >>> from streamer_store import AsyncRequest, open_stores_sync
    >>> with open_stores_sync(region="eu-west-1", prefix="docstring_") as stores:
    ...     stores.create_tables()
    ...     request = stores.requests.enqueue(AsyncRequest(action="echo"))
    ...     print(stores.requests.get(request.request_id).status)
    PENDING

    The parameters and the errors are those of `open_stores`, except that a `client` is refused,
    since it belongs to another event loop. `report` and `observe` run in the thread of the event
    loop.
    """
    if parameters.get("client") is not None:
        message = "a client belongs to the event loop that opened it: hand in its session instead"
        raise InvalidInput(message, operation="open")
    return SyncStores(StoresThread(partial(open_stores, **parameters)))


def memory_stores_sync(
    *,
    clock: Clock | None = None,
    rng: random.Random | None = None,
    report: Report = log_undecodable,
    retention: Retention | None = None,
) -> SyncStores:
    """Return empty synchronous stores in memory, for tests. The tables exist already.

    The parameters are those of `memory_stores`. A forked child has a copy.

    >>> from streamer_store import AsyncRequest, memory_stores_sync
    >>> with memory_stores_sync() as stores:
    ...     request = stores.requests.enqueue(AsyncRequest(action="echo"))
    ...     print([each.action for each in stores.requests.get_by_status(request.status)])
    ['echo']
    """
    stores = memory_stores(clock=clock, rng=rng, report=report, retention=retention)
    return SyncStores(StoresThread(partial(_as_they_are, stores)))


@asynccontextmanager
async def _as_they_are(stores: Stores) -> AsyncIterator[Stores]:
    yield stores
