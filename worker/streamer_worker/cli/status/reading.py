"""Reads a snapshot from DynamoDB, with a bounded number of calls and items."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio

from streamer_store import (
    AccessDenied,
    Difference,
    InvalidInput,
    RequestStatus,
    StoreUnavailable,
    SystemClock,
    TableMissing,
    Undecodable,
    codec,
)
from streamer_store.codec import raw_text
from streamer_store.decoding import ItemDecoder
from streamer_store.engine import Scan
from streamer_store.errors import ungrouped
from streamer_store.reserved_ids import CONTROL_PREFIX
from streamer_store.schema import WORKERS
from streamer_store.stores import stores_over
from streamer_worker.cli.status.liveness import Liveness, is_doubtful
from streamer_worker.cli.status.queue import QueueReader
from streamer_worker.cli.status.snapshot import Snapshot, Unreadable, Worker
from streamer_worker.cli.waiting import CALL_TIMEOUT

if TYPE_CHECKING:
    from streamer_store import Target, WorkerRow
    from streamer_store.clock import Clock
    from streamer_store.dynamo.calls import CallEnded, Observe, TryFailed
    from streamer_store.engine import Engine
    from streamer_worker.settings import Settings

_Result = TypeVar("_Result")
# Seconds.
_TRY_TIMEOUT: Final = 5.0
_SCREEN_TIMEOUT: Final = 45.0
_CHECK_TABLES_EVERY: Final = 60.0
_LONGEST_SECOND_LOOK: Final = 10.0
# A difference of less is the delay of a call, and the whole seconds of a Date header.
_CLOCK_TOLERANCE: Final = 3.0
_ATTEMPTS: Final = 2
_CONNECTIONS: Final = 10
_MAX_WORKERS: Final = 2_000
_SCAN_PAGE: Final = 1_000
_MAX_UNDECODABLE: Final = 100
_WORKERS: Final = "workers"
_PAUSES: Final = "pauses"
_DESCRIPTIONS: Final = "descriptions of the tables"
_ROW: Final = (
    *("WorkerID", "StartedAt", "Beat", "SeenAt", "Host", "PID", "Release", "Actions"),
    *("Concurrency", "InFlight", "Draining", "Sweeps", "Lanes", "Pauses", "Drain", "TTL"),
)


@asynccontextmanager
async def open_reader(
    settings: Settings, *, observe: Observe | None = None
) -> AsyncIterator[SnapshotReader]:
    """Open a client for the tables that the settings name, and give a reader over it.

    `observe` is called with each event of a call, as by `open_stores`, whose
    errors these are.
    """
    from streamer_store.dynamo.addressing import tables_in_force
    from streamer_store.dynamo.calls import observe_calls
    from streamer_store.dynamo.connecting import open_client
    from streamer_store.dynamo.engine import DynamoEngine

    rng = random.SystemRandom()
    tables = tables_in_force(settings.table_prefix, settings.table_names.given)
    async with open_client(
        endpoint_url=settings.endpoint_url,
        region=settings.region,
        max_connections=_CONNECTIONS,
        connect_timeout=_TRY_TIMEOUT,
        read_timeout=_TRY_TIMEOUT,
        attempts=_ATTEMPTS,
        call_timeout=CALL_TIMEOUT,
        validate_parameters=False,
    ) as opened:
        client = opened.client
        reader = SnapshotReader(
            engine=DynamoEngine(client=client, names=tables.names, rng=rng, timeout=CALL_TIMEOUT),
            target=opened.target(tables),
            settings=settings,
            clock=SystemClock(),
        )

        def on_event(event: CallEnded | TryFailed) -> None:
            reader.on_call(event)
            if observe is not None:
                observe(event)

        def on_answer(parsed: Any, **_: Any) -> None:
            reader.on_answer(parsed)

        observe_calls(client, on_event)
        client.meta.events.register("after-call.dynamodb", on_answer)
        yield reader


class SnapshotReader:
    """Reads one snapshot after the other. It remembers what did not change in between."""

    def __init__(self, *, engine: Engine, target: Target, settings: Settings, clock: Clock) -> None:
        self._engine = engine
        self._target = target
        self._settings = settings
        self._clock = clock
        self._undecodable: dict[str, str] = {}
        self._stores = stores_over(
            engine, clock=clock, rng=random.SystemRandom(), report=self._report
        )
        self._queue = QueueReader(requests=self._stores.requests, engine=engine)
        self._decoder: ItemDecoder[WorkerRow] = ItemDecoder(
            codec.worker, table=engine.table_name(WORKERS), report=self._report
        )
        self._liveness = Liveness(lease=settings.presence.lease)
        self._looked_twice = False
        self._differences: list[Difference] | None = None
        self._checked_at: float | None = None
        self._unreadable: dict[str, Unreadable] = {}
        self._read_units = 0.0
        self._clock_offset: float | None = None
        self._least_offset = math.inf  # of the answers to this screen

    def on_call(self, event: CallEnded | TryFailed) -> None:
        """Count the capacity of a call."""
        self._read_units += sum(part.units for part in getattr(event, "capacity", ()))

    def on_answer(self, answer: Any) -> None:
        """Compare the clocks by the Date header of an answer."""
        try:
            headers = answer["ResponseMetadata"]["HTTPHeaders"]
            date = parsedate_to_datetime(headers["date"])
        except (KeyError, TypeError, ValueError):
            return  # another program's answer
        if date.tzinfo is not None:
            # An answer that was slow to be read makes this machine seem to be ahead.
            offset = (self._clock.now() - date).total_seconds()
            self._least_offset = min(self._least_offset, offset)
            self._clock_offset = self._least_offset

    async def read(self) -> Snapshot:
        """Read a snapshot. Raises StoreUnavailable if DynamoDB does not answer in time.

        A read that is denied, or whose table is missing, is a part that the snapshot lacks.
        """
        started = self._clock.steady()
        self._read_units = 0.0
        self._least_offset = math.inf
        self._unreadable.clear()
        self._undecodable.clear()
        try:
            with ungrouped(), anyio.fail_after(_SCREEN_TIMEOUT):
                return await self._read(started)
        except TimeoutError as error:
            raise StoreUnavailable(
                f"DynamoDB was too slow: no screen within {_SCREEN_TIMEOUT:g} s",
                operation="status",
            ) from error

    async def _read(self, started: float) -> Snapshot:
        queue = self._queue
        # PROCESSING before the workers: a worker that has claimed one of them has its row. This is
        # also the first answer, which says what time it is.
        await self._guarded(
            "requests PROCESSING", lambda: queue.read_running(self._now), essential=True
        )
        now = self._now()
        parts: list[tuple[str, Callable[[], Awaitable[Any]], bool]] = [
            (_WORKERS, self._workers, True),
            ("requests PENDING", partial(queue.read_pending, now), True),
            ("requests RETRYING and SCHEDULED", partial(queue.read_delayed, now), True),
            *(
                (_sample_of(status), partial(queue.sample, status, now), False)
                for status in queue.SAMPLED
            ),
            (_PAUSES, self._stores.pauses.read_all, False),
            (_DESCRIPTIONS, self._check_tables, False),
        ]
        found: dict[str, Any] = {}

        async def read_part(
            what: str,
            read: Callable[[], Awaitable[Any]],
            essential: bool,  # noqa: FBT001
        ) -> None:
            found[what] = await self._guarded(what, read, essential=essential)

        async with anyio.create_task_group() as tasks:
            for part in parts:
                tasks.start_soon(read_part, *part)
        workers, workers_more = found[_WORKERS] or (None, False)
        orphans: list[str] = []
        orphans_more = False
        if workers is not None and not workers_more:
            alive = {worker.row.worker_id for worker in workers if worker.beating}
            result = await self._guarded(
                "items of requests PROCESSING", lambda: queue.orphans(alive), essential=False
            )
            orphans, orphans_more = result or ([], False)
        return Snapshot(
            now=self._now(),
            target=self._target,
            lease=self._settings.presence.lease,
            unknown_action_timeout=self._settings.poll.unknown_action_timeout,
            clock_offset=self._clock_offset,
            workers=workers,
            workers_more=workers_more,
            pauses=found[_PAUSES],
            depths=dict(queue.depths),
            completed=found[_sample_of(RequestStatus.COMPLETED)],
            failed=found[_sample_of(RequestStatus.FAILED)],
            retrying=found[_sample_of(RequestStatus.RETRYING)],
            orphans=orphans,
            orphans_more=orphans_more,
            differences=found[_DESCRIPTIONS],
            unreadable=list(self._unreadable.values()),
            undecodable=[*self._undecodable.values(), *queue.broken][:_MAX_UNDECODABLE],
            read_units=self._read_units,
            seconds=self._clock.steady() - started,
        )

    def _now(self) -> datetime:
        """Return DynamoDB's time, or this machine's if the two hardly differ."""
        offset = self._clock_offset
        if offset is None or abs(offset) <= _CLOCK_TOLERANCE:
            return self._clock.now()
        return self._clock.now() - timedelta(seconds=offset)

    async def _guarded(
        self, what: str, read: Callable[[], Awaitable[_Result]], *, essential: bool
    ) -> _Result | None:
        """Return what `read` returns, or None if it is refused, which is noted."""
        try:
            return await read()
        except (AccessDenied, InvalidInput, TableMissing) as error:
            self._unreadable[what] = Unreadable(
                what=what,
                reason=str(error),
                essential=essential,
                missing=isinstance(error, TableMissing),
            )
            return None

    async def _workers(self) -> tuple[list[Worker], bool]:
        """Return the workers, and whether there are more than were read."""
        rows, more = await self._rows()
        workers = self._liveness.observe(rows, now=self._now(), steady=self._clock.steady())
        if not self._looked_twice and any(is_doubtful(worker) for worker in workers):
            await anyio.sleep(min(_LONGEST_SECOND_LOOK, 1.5 * self._settings.presence.heartbeat))
            rows, more = await self._rows()
            workers = self._liveness.observe(rows, now=self._now(), steady=self._clock.steady())
        self._looked_twice = True
        return workers, more

    async def _rows(self) -> tuple[list[WorkerRow], bool]:
        rows: list[WorkerRow] = []
        cursor = None
        while True:
            page = await self._engine.scan(
                Scan(
                    table=WORKERS,
                    attributes=_ROW,
                    limit=_SCAN_PAGE,
                    exclusive_start_key=cursor,
                )
            )
            rows += self._decoder.decode_all(
                item
                for item in page.items
                if not raw_text(item, "WorkerID").startswith(CONTROL_PREFIX)
            )
            cursor = page.last_evaluated_key
            if cursor is None or len(rows) >= _MAX_WORKERS:
                break
        for row in rows:
            if row.broken is not None:
                self._decoder.report(Undecodable(row.broken, key=row.worker_id))
        return rows, cursor is not None

    async def _check_tables(self) -> list[Difference]:
        """Return the differences of the tables. They are compared once a minute."""
        steady = self._clock.steady()
        fresh = self._checked_at is not None and steady - self._checked_at < _CHECK_TABLES_EVERY
        if self._differences is None or not fresh:
            self._differences = await self._stores.check_tables()
            self._checked_at = steady
        return self._differences

    def _report(self, error: Undecodable) -> None:
        if len(self._undecodable) < _MAX_UNDECODABLE:
            self._undecodable[f"{error.table} {error.key}"] = str(error)


def _sample_of(status: RequestStatus) -> str:
    """Return the name of a part of the screen."""
    return f"requests {status}"
