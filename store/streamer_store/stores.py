"""The stores over one engine."""

from __future__ import annotations

import random
from dataclasses import dataclass

from streamer_store.clock import Clock, SystemClock
from streamer_store.connections import ConnectionTable
from streamer_store.decoding import Report
from streamer_store.disconnecting import Disconnected, disconnect
from streamer_store.engine import Difference, Engine
from streamer_store.errors import Undecodable
from streamer_store.memory import MemoryEngine
from streamer_store.pauses import PauseTable
from streamer_store.protocols import (
    ConnectionStore,
    Pauses,
    RequestQueue,
    ScheduleStore,
    SubscriptionStore,
    WorkerRegistry,
)
from streamer_store.request_producer import RequestProducer
from streamer_store.request_table import RequestTable
from streamer_store.requests import RequestStore
from streamer_store.retention import Retention
from streamer_store.schedule_rows import ScheduleTable
from streamer_store.subscriptions import SubscriptionTable
from streamer_store.target import Target
from streamer_store.workers import WorkerTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """The stores of one deployment."""

    connections: ConnectionStore
    """Open WebSocket connections."""
    requests: RequestQueue
    """The queue of requests."""
    subscriptions: SubscriptionStore
    """Which connections receive messages about which requests."""
    workers: WorkerRegistry
    """Live workers, their leases and mailboxes."""
    schedules: ScheduleStore
    """The rows of schedules, which make requests at fixed times."""
    pauses: Pauses
    """What is paused."""
    engine: Engine
    """The database under the stores."""
    target: Target | None = None
    """The address of the database. None: the stores are in memory."""

    async def disconnect(
        self, connection_id: str, *, cancel_requests: bool = False
    ) -> Disconnected:
        """Remove a connection and its subscriptions together, and cancel what waits for it.

        There are three steps:

        1. Of more than 99 subscriptions, those beyond 99 are deleted.
        2. The connection and the other subscriptions are deleted in one transaction, which costs
           twice the write units. From then on no request can require the connection.
        3. With `cancel_requests` its requests that wait are cancelled, one by one. Those that run
           are kept.

        Succeeds if there is no connection: after an error or a crash, call it again. Lists come
        from indexes, which lag: subscriptions and requests of the last second may be left. TTL
        deletes such subscriptions, and their messages go to nobody. Raises StoreUnavailable.
        """
        return await disconnect(
            self.engine, self.requests, connection_id, cancel_requests=cancel_requests
        )

    async def create_tables(self) -> None:
        """Create the tables that are missing, and wait until they are active."""
        await self.engine.create_tables()

    async def check_tables(self) -> list[Difference]:
        """Return every difference between the tables and the schema. Empty: there is none."""
        return await self.engine.check_tables()

    async def account(self) -> str | None:
        """Return the id of the AWS account that has the tables, from DescribeTable.

        None: in memory and on DynamoDB Local, which have no account, and without tables.
        """
        return await self.engine.account()


def log_undecodable(error: Undecodable) -> None:
    """Log an item that cannot be decoded, as a warning. The default `report` of all stores."""
    import structlog  # takes as long to import as all of this package

    structlog.get_logger("streamer_store").warning(
        "undecodable_item", table=error.table, key=error.key, reason=error.reason
    )


def stores_over(
    engine: Engine,
    *,
    clock: Clock,
    rng: random.Random,
    report: Report = log_undecodable,
    retention: Retention | None = None,
    target: Target | None = None,
) -> Stores:
    """Return the stores over an engine.

    - `clock`: the time of all stored times and of what is due.
    - `rng`: the source of ids, Versions and the jitter of backoffs.
    - `report`: called with the error of each item that cannot be decoded.
    - `retention`: how long ended requests are kept. None: seven days.
    - `target`: the address of the database. None: it is in memory.
    """
    subscriptions = SubscriptionTable(engine=engine, clock=clock, rng=rng, report=report)
    workers = WorkerTable(engine=engine, clock=clock, report=report)
    table = RequestTable(engine=engine, report=report, retention=retention or Retention())
    producer = RequestProducer(table=table, clock=clock, rng=rng)
    return Stores(
        connections=ConnectionTable(
            engine=engine, subscriptions=subscriptions, clock=clock, rng=rng, report=report
        ),
        requests=RequestStore(
            engine=engine,
            workers=workers,
            clock=clock,
            rng=rng,
            report=report,
            retention=retention or Retention(),
        ),
        subscriptions=subscriptions,
        workers=workers,
        schedules=ScheduleTable(engine=engine, producer=producer, clock=clock, report=report),
        pauses=PauseTable(engine=engine, clock=clock, report=report),
        engine=engine,
        target=target,
    )


def memory_stores(
    *,
    clock: Clock | None = None,
    rng: random.Random | None = None,
    report: Report = log_undecodable,
    retention: Retention | None = None,
) -> Stores:
    """Return empty stores in memory, for tests. The tables exist already.

    - `clock`: the time of all stored times and of what is due. None: the system's clock.
    - `rng`: the source of ids, Versions and the jitter of backoffs. Give a `random.Random` with
      a seed for repeatable tests. None: the system's generator.
    - `report`: called with an Undecodable for each item that cannot be decoded. The default logs
      it.
    - `retention`: how long ended requests are kept. None: seven days. Nothing deletes them here.

    They work with asyncio and trio, in one event loop.

    >>> import anyio
    >>> from streamer_store import AsyncRequest, memory_stores
    >>> async def main() -> None:
    ...     stores = memory_stores()
    ...     await stores.requests.enqueue(AsyncRequest(action="echo", payload={"n": 1}))
    ...     (claim,) = await stores.requests.dequeue(limit=1)
    ...     print(claim.request.action, claim.request.payload)
    ...     await stores.requests.complete(claim, {"n": 1})
    >>> anyio.run(main)
    echo {'n': 1}
    """
    return stores_over(
        MemoryEngine(),
        clock=clock or SystemClock(),
        rng=rng or random.SystemRandom(),
        report=report,
        retention=retention,
    )
