"""The workers' rows and mailboxes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from streamer_store import AlreadyExists, NotFound, Stores, Undecodable, ValidationError, WorkerRow
from streamer_store.engine import Put
from streamer_store.schema import WORKERS
from streamer_store.times import epoch
from streamer_store.values import Item
from support import START

if TYPE_CHECKING:
    from support import ManualClock

pytestmark = pytest.mark.anyio

ROW = WorkerRow(
    worker_id="w1",
    started_at=START,
    host="host",
    pid=42,
    release="0.1.0",
    actions=frozenset({"echo", "report", "bulk"}),
    concurrency=32,
)


async def _beat(
    stores: Stores, handled: tuple[str, ...] = (), *, drain_handled: bool = False
) -> WorkerRow:
    return await stores.workers.beat(
        "w1", in_flight=3, draining=False, sweeps=7, handled=handled, drain_handled=drain_handled
    )


async def test_a_worker_is_registered_once(stores: Stores) -> None:
    """Its row is listed with all that was given; the id is taken then."""
    await stores.workers.register(ROW)
    (row,) = await stores.workers.list()
    assert (row.host, row.pid, row.actions, row.concurrency) == ("host", 42, ROW.actions, 32)
    assert (row.beat, row.seen_at, row.ttl) == (0, START, epoch(START, timedelta(hours=24)))
    for change in ({"host": "other"}, {"pid": 43}, {"started_at": START - timedelta(seconds=1)}):
        with pytest.raises(AlreadyExists):
            await stores.workers.register(replace(ROW, **change))
    assert await stores.workers.list() == [row]


async def test_a_worker_may_register_again(stores: Stores, clock: ManualClock) -> None:
    """It did not hear the answer to its first try; meanwhile the row may have had mail."""
    await stores.workers.register(ROW)
    await stores.workers.request_drain("w1")
    clock.advance(4)
    await stores.workers.register(ROW)
    (row,) = await stores.workers.list()
    assert (row.pid, row.drain) == (42, True)


async def test_a_beat_tells_that_it_lives(stores: Stores, clock: ManualClock) -> None:
    """Beat goes up, the rest is renewed, and the whole row comes back."""
    await stores.workers.register(ROW)
    await _beat(stores)
    clock.advance(4)
    row = await _beat(stores)
    assert [row] == await stores.workers.list()
    assert (row.beat, row.in_flight, row.sweeps, row.seen_at) == (2, 3, 7, clock.now())
    assert row.ttl == epoch(clock.now(), timedelta(hours=24))
    assert row.actions == ROW.actions


async def test_a_row_that_is_gone_stays_gone(stores: Stores) -> None:
    """Neither a beat nor the mailbox makes it again."""
    with pytest.raises(NotFound):
        await _beat(stores)
    assert not await stores.workers.request_cancel("w1", "v1")
    assert not await stores.workers.request_drain("w1")
    assert await stores.workers.list() == []


async def test_the_mailbox_comes_with_the_beat(stores: Stores) -> None:
    """Cancellations gather until they are handled; what came since then stays."""
    await stores.workers.register(ROW)
    for version in ("v1", "v2", "v1"):
        assert await stores.workers.request_cancel("w1", version)
    assert (await _beat(stores)).cancel == {"v1", "v2"}
    assert await stores.workers.request_cancel("w1", "v3")
    assert (await _beat(stores, ("v1", "v2"))).cancel == {"v3"}
    assert (await _beat(stores, ("v3", "unknown"))).cancel == frozenset()


async def test_a_drain_order_stays_until_it_is_handled(stores: Stores) -> None:
    """It comes with each beat, and goes with the one that says it was handled."""
    await stores.workers.register(ROW)
    assert await stores.workers.request_drain("w1")
    assert (await _beat(stores)).drain
    assert not (await _beat(stores, drain_handled=True)).drain


async def test_a_row_is_removed_under_the_beat_seen(stores: Stores) -> None:
    """Not when it has beaten since; removing what is gone is well."""
    await stores.workers.register(ROW)
    seen = await _beat(stores)
    await _beat(stores)
    assert not await stores.workers.remove("w1", beat=seen.beat)
    assert len(await stores.workers.list()) == 1
    assert await stores.workers.remove("w1", beat=seen.beat + 1)
    assert await stores.workers.remove("w1", beat=9)
    assert await stores.workers.remove("w1")
    assert await stores.workers.list() == []


async def test_empty_ids_are_refused(stores: Stores) -> None:
    """The field is named."""
    with pytest.raises(ValidationError, match="worker_id"):
        await stores.workers.request_drain("")
    with pytest.raises(ValidationError, match="version"):
        await stores.workers.request_cancel("w1", "")


async def test_a_row_that_does_not_read_is_reported(
    stores: Stores, undecodable: list[Undecodable]
) -> None:
    """The others are listed all the same. Without StartedAt no worker keeps it."""
    await stores.workers.register(ROW)
    await stores.engine.put(Put(table=WORKERS, item={"WorkerID": {"S": "broken"}}))
    (row,) = await stores.workers.list()
    assert row.worker_id == "w1"
    assert [each.key for each in undecodable] == ["broken"]


async def test_a_live_worker_s_row_is_listed_whatever_is_wrong_with_it(
    stores: Stores, undecodable: list[Undecodable]
) -> None:
    """Another release may write otherwise: it beats, reads its mail, and is told as wrong."""
    odd: Item = {
        "WorkerID": {"S": "w1"},
        "StartedAt": {"S": "the other day"},
        "Actions": {"S": "echo"},
        "Beat": {"N": "3"},
    }
    await stores.engine.put(Put(table=WORKERS, item=odd))
    assert await stores.workers.request_cancel("w1", "v1")
    row = await _beat(stores)
    assert (row.beat, row.actions, row.cancel) == (4, frozenset(), frozenset({"v1"}))
    (listed,) = await stores.workers.list()
    assert (listed.worker_id, listed.beat) == ("w1", 4)
    assert [each.key for each in undecodable] == ["w1"]
