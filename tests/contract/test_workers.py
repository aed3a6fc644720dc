"""The workers' rows and mailboxes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from streamer_store import AlreadyExists, NotFound, Stores, Undecodable, ValidationError, WorkerRow
from streamer_store.engine import Put, Update
from streamer_store.fleet_shares import FleetShare
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
    """The row is listed as given. Another worker with this id is refused."""
    await stores.workers.register(ROW)
    (row,) = await stores.workers.list()
    assert (row.host, row.pid, row.actions, row.concurrency) == ("host", 42, ROW.actions, 32)
    assert (row.beat, row.seen_at, row.ttl) == (0, START, epoch(START, timedelta(hours=24)))
    for change in ({"host": "other"}, {"pid": 43}, {"started_at": START - timedelta(seconds=1)}):
        with pytest.raises(AlreadyExists):
            await stores.workers.register(replace(ROW, **change))
    assert await stores.workers.list() == [row]


async def test_a_heartbeat_writes_the_shares_of_limits_of_the_fleet(stores: Stores) -> None:
    """They are in the row as given. A heartbeat without any leaves them as they are."""
    shares = {"mail": FleetShare(1, 2, 3), "a.b": FleetShare()}
    await stores.workers.register(replace(ROW, shares={"mail": FleetShare()}))
    assert (await stores.workers.list())[0].shares == {"mail": FleetShare()}
    for given in (shares, {}):
        row = await stores.workers.beat("w1", in_flight=0, draining=False, sweeps=0, shares=given)
        assert row.shares == shares


@pytest.mark.parametrize(
    "stored",
    [
        {"S": "x"},
        {"M": {"mail": {"S": "x"}}},
        {"M": {"mail": {"L": [{"N": "1"}]}}},
        {"M": {"mail": {"L": [{"N": "1"}, {"N": "-2"}, {"N": "3"}]}}},
    ],
    ids=["text", "text of an action", "one number", "a negative number"],
)
async def test_shares_that_cannot_be_read_are_left_out(
    stores: Stores, undecodable: list[Undecodable], stored: Item
) -> None:
    """The row is a worker's all the same, and what is wrong is reported."""
    await stores.workers.register(ROW)
    await stores.engine.update(Update(table=WORKERS, key="w1", sets={"FleetShares": stored}))
    (row,) = await stores.workers.list()
    assert (row.worker_id, dict(row.shares)) == ("w1", {})
    assert undecodable


async def test_the_same_worker_can_register_again(stores: Stores, clock: ManualClock) -> None:
    """Registering again after a lost answer keeps the mailbox."""
    await stores.workers.register(ROW)
    await stores.workers.request_drain("w1")
    clock.advance(4)
    await stores.workers.register(ROW)
    (row,) = await stores.workers.list()
    assert (row.pid, row.drain) == (42, True)


async def test_a_beat_renews_the_row(stores: Stores, clock: ManualClock) -> None:
    """Beat increases, the other fields are renewed, and the whole row is returned."""
    await stores.workers.register(ROW)
    await _beat(stores)
    clock.advance(4)
    row = await _beat(stores)
    assert [row] == await stores.workers.list()
    assert (row.beat, row.in_flight, row.sweeps, row.seen_at) == (2, 3, 7, clock.now())
    assert row.ttl == epoch(clock.now(), timedelta(hours=24))
    assert row.actions == ROW.actions


async def test_only_register_creates_a_row(stores: Stores) -> None:
    """Neither a beat nor a write to the mailbox creates a deleted row again. Proves LEASE-1."""
    with pytest.raises(NotFound):
        await _beat(stores)
    assert not await stores.workers.request_cancel("w1", "v1")
    assert not await stores.workers.request_drain("w1")
    assert await stores.workers.list() == []


async def test_a_beat_returns_the_mailbox(stores: Stores) -> None:
    """Cancellations are kept until they are handled, and later ones are not lost."""
    await stores.workers.register(ROW)
    for version in ("v1", "v2", "v1"):
        assert await stores.workers.request_cancel("w1", version)
    assert (await _beat(stores)).cancel == {"v1", "v2"}
    assert await stores.workers.request_cancel("w1", "v3")
    assert (await _beat(stores, ("v1", "v2"))).cancel == {"v3"}
    assert (await _beat(stores, ("v3", "unknown"))).cancel == frozenset()


async def test_a_drain_order_is_kept_until_it_is_handled(stores: Stores) -> None:
    """Each beat returns it until one says that it was handled."""
    await stores.workers.register(ROW)
    assert await stores.workers.request_drain("w1")
    assert (await _beat(stores)).drain
    assert not (await _beat(stores, drain_handled=True)).drain


async def test_a_row_is_removed_only_if_beat_is_unchanged(stores: Stores) -> None:
    """A row that was renewed is kept. Removing a missing row succeeds. Proves RESCUE-1."""
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
    """The error names the field."""
    with pytest.raises(ValidationError, match="worker_id"):
        await stores.workers.request_drain("")
    with pytest.raises(ValidationError, match="version"):
        await stores.workers.request_cancel("w1", "")


async def test_an_undecodable_row_is_reported(
    stores: Stores, undecodable: list[Undecodable]
) -> None:
    """A row without StartedAt is reported and left out. The others are listed."""
    await stores.workers.register(ROW)
    await stores.engine.put(Put(table=WORKERS, item={"WorkerID": {"S": "broken"}}))
    (row,) = await stores.workers.list()
    assert row.worker_id == "w1"
    assert [error.key for error in undecodable] == ["broken"]


async def test_a_row_that_is_partly_undecodable_is_listed(
    stores: Stores, undecodable: list[Undecodable]
) -> None:
    """The row of another release can still beat and read its mailbox, and is reported."""
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
    assert [error.key for error in undecodable] == ["w1"]


async def test_control_rows_are_no_workers(stores: Stores, undecodable: list[Undecodable]) -> None:
    """They are read beside the workers' rows, and never reported as broken ones."""
    await stores.workers.register(ROW)
    item: Item = {"WorkerID": {"S": "control#pause"}, "Entries": {"M": {}}}
    await stores.engine.put(Put(table=WORKERS, item=item))
    assert [row.worker_id for row in await stores.workers.list()] == ["w1"]
    rows = await stores.workers.read_all()
    assert [row.worker_id for row in rows.workers] == ["w1"]
    assert rows.controls == {"control#pause": item}
    assert undecodable == []


async def test_no_worker_has_the_id_of_a_control_row(stores: Stores) -> None:
    """Such an id is refused."""
    with pytest.raises(ValidationError, match="control#"):
        await stores.workers.register(replace(ROW, worker_id="control#pause"))
