"""Open the stores on DynamoDB."""

from __future__ import annotations

import asyncio
import inspect
import random
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from streamer_store.cache import Cache
from streamer_store.clock import Clock, SystemClock
from streamer_store.decoding import Report
from streamer_store.dynamo.addressing import CLIENT, tables_in_force
from streamer_store.dynamo.calls import Observe, observe_calls
from streamer_store.engine import Engine
from streamer_store.errors import InvalidInput, StoreError
from streamer_store.retention import Retention
from streamer_store.stores import Stores, log_undecodable, stores_over

if TYPE_CHECKING:
    from aiobotocore.session import AioSession
    from types_aiobotocore_dynamodb import DynamoDBClient

    from streamer_store.dynamo.connecting import OpenClient


@asynccontextmanager
async def open_stores(
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
    prefix: str | None = None,
    table_names: Mapping[str, str] | None = None,
    max_connections: int = 50,
    connect_timeout: float = 3.0,
    read_timeout: float = 10.0,
    attempts: int = 5,
    call_timeout: float = 30.0,
    validate_parameters: bool = False,
    batch_writes: bool = True,
    retention: Retention | None = None,
    cache: Cache | None = None,
    clock: Clock | None = None,
    rng: random.Random | None = None,
    report: Report = log_undecodable,
    observe: Observe | None = None,
    session: AioSession | None = None,
    client: DynamoDBClient | None = None,
) -> AsyncIterator[Stores]:
    """Open the four stores on DynamoDB, with one client that is closed with the context.

    Open them once per process: opening fetches credentials, and the client pools connections.
    The stores run on asyncio only, in the event loop that opened them. In another event loop,
    or after the context has ended, each call raises StoreError.

    >>> import anyio
    >>> from streamer_store import AsyncRequest, open_stores
    >>> async def main() -> None:
    ...     async with open_stores(region="eu-west-1", prefix="docstring_") as stores:
    ...         await stores.create_tables()
    ...         request = await stores.requests.enqueue(AsyncRequest(action="echo"))
    ...         print((await stores.requests.get(request.request_id)).status)
    >>> anyio.run(main)
    PENDING

    The same variables as those of the worker say where the tables are: STREAMER_TABLE_PREFIX,
    STREAMER_TABLE_NAMES_REQUESTS and so on, STREAMER_ENDPOINT_URL and STREAMER_REGION. An
    argument overrides its variable. An empty variable counts as unset. `Stores.target` says what
    is in force.

    Parameters:
    - `endpoint_url`: the address to call, for example that of DynamoDB Local. By default
      STREAMER_ENDPOINT_URL, then the AWS settings (AWS_ENDPOINT_URL_DYNAMODB, AWS_ENDPOINT_URL,
      profile), then AWS's own endpoint of the region.
    - `region`: the AWS region. By default STREAMER_REGION, then the AWS settings
      (AWS_DEFAULT_REGION, profile, AWS_REGION). Without any, it is us-east-1 for an endpoint
      that is not AWS's.
    - `prefix`: the prefix of the four table names. By default STREAMER_TABLE_PREFIX, then
      `streamer_`. Beside this argument, STREAMER_TABLE_NAMES_REQUESTS and the like do not count.
    - `table_names`: full names for tables that do not have the prefix, such as
      `{"requests": "jobs", "workers": "job-workers"}`. The others are `connections` and
      `subscriptions`. By default STREAMER_TABLE_NAMES_REQUESTS and so on.
    - `max_connections`: the most HTTP connections at a time. More calls wait. Default 50.
    - `connect_timeout`: seconds to connect, for each attempt. Default 3.
    - `read_timeout`: seconds to wait for data, for each attempt. Default 10.
    - `attempts`: how often a call is tried in all. Pauses of at most 1, 2, 4, 8 ... 20 seconds
      are between the attempts (botocore's retry mode "standard"). Default 5.
    - `call_timeout`: seconds for a whole call: credentials, all attempts, and the pauses
      between them. Default 30.
    - `validate_parameters`: whether botocore validates the arguments of each call. Costs time,
      and is of use in tests. Default False.
    - `batch_writes`: whether conditional writes that wait at the same moment are sent in one
      BatchExecuteStatement, 25 at most. It needs PartiQLInsert to enqueue, and PartiQLUpdate and
      BatchGetItem to claim and settle. Where they are denied, each write is a call. False for
      emulators without PartiQL's conditions, such as moto. Default True.
    - `retention`: how long requests are kept after their end. Default seven days.
    - `cache`: the bounds of a cache of connections and of the subscriptions to a request. A call
      returns what was read less than its `max_age` before; writes of these stores are seen at
      once. Lists by user, tenant and connection, and all of requests and workers, are not cached.
      By default nothing is cached.
    - `clock`: the source of the times that are stored. Default SystemClock.
    - `rng`: the source of request ids, versions and pauses. Default random.SystemRandom.
    - `report`: called with each Undecodable item that a read leaves out. Logs by default.
    - `observe`: called with a TryFailed for each failed attempt, and with a CallEnded for each
      call. Runs in the event loop and must not block. By default there are no such events.
    - `session`: an aiobotocore session, whose profile and credentials are used. By default a new
      one.
    - `client`: an open aiobotocore client of DynamoDB, of the running event loop. Its owner closes
      it, after the stores. It has decided on `session`, `endpoint_url`, `region`,
      `max_connections`, the three limits of an attempt and `validate_parameters`. They and
      `observe` are refused beside it, and STREAMER_ENDPOINT_URL and STREAMER_REGION have no
      effect. `call_timeout` holds.

    Raises InvalidInput where no region is known or an AWS setting is wrong, ValidationError for
    wrong names of tables, AccessDenied where the credentials are incomplete, StoreUnavailable
    where they do not come within 35 seconds. Without any credentials, the first call raises
    AccessDenied.
    """
    # These import botocore and aiohttp: 0.3 s, which programs on other stores need not spend.
    from streamer_store.dynamo.connecting import open_client
    from streamer_store.dynamo.engine import DynamoEngine
    from streamer_store.group_commit import GroupCommitEngine

    rng = rng or random.SystemRandom()
    closing = AsyncExitStack()
    tables = tables_in_force(prefix, table_names)
    connection: dict[str, Any] = {
        "session": session,
        "endpoint_url": endpoint_url,
        "region": region,
        "max_connections": max_connections,
        "connect_timeout": connect_timeout,
        "read_timeout": read_timeout,
        "attempts": attempts,
        "validate_parameters": validate_parameters,
    }
    if client is None:
        opening = open_client(**connection, call_timeout=call_timeout)
    else:
        opening = _as_given(client, connection | {"observe": observe})
    async with opening as opened, closing:
        client = opened.client
        owner = _OwnerLoop()
        try:
            if observe is not None:
                observe_calls(client, observe)
            single = DynamoEngine(
                client=client,
                names=tables.names,
                rng=rng,
                timeout=call_timeout,
                require_open=owner.require,
                observe=observe,
            )
            engine: Engine = single
            if batch_writes:
                tasks = _Tasks()
                engine = grouped = GroupCommitEngine(
                    single,
                    tasks=tasks,
                    rng=rng,
                    require_open=owner.require,
                    new_event=_FutureEvent,
                )
                closing.push_async_callback(tasks.cancel)
                closing.callback(grouped.close)
            clock = clock or SystemClock()
            if cache is not None:
                from streamer_store.caching_engine import CachingEngine

                engine = CachingEngine(engine, cache=cache, clock=clock, require_open=owner.require)
            yield stores_over(
                engine,
                clock=clock,
                rng=rng,
                report=report,
                retention=retention,
                target=opened.target(tables),
            )
        finally:
            owner.closed = True


@asynccontextmanager
async def _as_given(client: DynamoDBClient, others: dict[str, Any]) -> AsyncIterator[OpenClient]:
    """Yield a client that its owner closes. Raises InvalidInput beside an argument of `others`."""
    from streamer_store.dynamo.connecting import OpenClient

    parameters = inspect.signature(open_stores).parameters
    given = [name for name, value in others.items() if value != parameters[name].default]
    if given:
        message = f"the client has decided on {', '.join(given)}: set that where it is created"
        raise InvalidInput(message, operation="open")
    yield OpenClient(client=client, endpoint_source=CLIENT, region_source=CLIENT)


class _Tasks:
    """Tasks of the running event loop.

    Not a task group: it would wrap the exceptions of the block for which the stores are open.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def start_soon(self, work: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        """Start `work(*arguments)` in the next round of the event loop."""
        task = self._loop.create_task(work(*arguments))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def cancel(self) -> None:
        """Cancel the tasks, and wait for their ends."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _FutureEvent:
    """An event that one task waits for, once. anyio's takes four times as long to make and use."""

    __slots__ = ("_future",)

    def __init__(self) -> None:
        self._future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    def is_set(self) -> bool:
        return self._future.done() and not self._future.cancelled()

    async def wait(self) -> None:
        await self._future


class _OwnerLoop:
    """The event loop in which a client may be used, until the client is closed."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.closed = False

    def require(self) -> None:
        """Raise StoreError where the client is closed, or belongs to another event loop."""
        # A thread runs one loop at a time. Asking for the running one takes a system call.
        is_here = self._loop.is_running() and threading.get_ident() == self._thread
        if is_here and not self.closed:
            return
        is_closed = self.closed or self._loop.is_closed()
        state = "are closed" if is_closed else "belong to another event loop"
        raise StoreError(
            f"these stores {state}: use them inside `async with open_stores(...)`, in the event"
            " loop that opened them. Each asyncio.run() has an event loop of its own",
            operation="open",
        )
