"""The store of connections, and the deletion of stale ones."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from streamer_store import (
    Connection,
    NotFound,
    StaleSweep,
    Stores,
    Undecodable,
    ValidationError,
    codec,
)
from streamer_store.engine import Put
from streamer_store.schema import CONNECTIONS
from streamer_store.times import NEVER, epoch, format_time
from support import START

if TYPE_CHECKING:
    from support import ManualClock

pytestmark = pytest.mark.anyio
DAY = timedelta(hours=24)
HOUR = timedelta(hours=1)


def connection(connection_id: str = "c1", **fields: object) -> Connection:
    values = {
        "user_id": "u1",
        "tenant_id": "t1",
        "endpoint": "wss://example.com/ws",
        "connected_at": START,
        "last_ping": START,
    }
    return Connection(connection_id=connection_id, **(values | fields))  # type: ignore[arg-type]


async def _ids(stores: Stores) -> list[str]:
    return sorted(listed.connection_id for listed in await stores.connections.list_by_user("u1"))


async def _raw_ping(stores: Stores, connection_id: str, ping: dict[str, str] | None) -> None:
    item = {
        "ConnectionID": {"S": connection_id},
        "UserID": {"S": "u1"},
        "TenantID": {"S": "t1"},
        "Endpoint": {"S": "wss://example.com/ws"},
    }
    if ping is not None:
        item["LastPing"] = ping
    await stores.engine.put(Put(table=CONNECTIONS, item=item))


async def test_a_connection_is_saved_and_read(stores: Stores) -> None:
    """A saved connection gets a TTL of 24 hours. Saving it again replaces it."""
    saved = await stores.connections.save(connection(metadata={"agent": "x"}))
    assert saved.ttl == epoch(START, DAY)
    assert await stores.connections.get("c1") == saved
    await stores.connections.save(connection(user_id="u2", ttl=5))
    again = await stores.connections.get("c1")
    assert (again.user_id, again.ttl, again.metadata) == ("u2", 5, {})


async def test_a_missing_connection_is_not_found(stores: Stores) -> None:
    """Reads and pings raise NotFound, deleting succeeds, and nothing is created."""
    with pytest.raises(NotFound):
        await stores.connections.get("c1")
    with pytest.raises(NotFound):
        await stores.connections.update_last_ping("c1")
    await stores.connections.delete("c1")
    with pytest.raises(NotFound):
        await stores.connections.get("c1")
    with pytest.raises(ValidationError, match="connection_id"):
        await stores.connections.get("")


async def test_a_ping_renews_last_ping_and_ttl(stores: Stores, clock: ManualClock) -> None:
    """LastPing becomes now and TTL 24 hours later. Other fields are unchanged."""
    await stores.connections.save(connection(metadata={"agent": "x"}))
    clock.advance(3600)
    await stores.connections.update_last_ping("c1")
    pinged = await stores.connections.get("c1")
    assert (pinged.last_ping, pinged.ttl) == (clock.now(), epoch(clock.now(), DAY))
    assert pinged.metadata == {"agent": "x"}


async def test_connections_are_listed_by_user_and_tenant(
    stores: Stores, undecodable: list[Undecodable]
) -> None:
    """Each list has its own connections. One that cannot be decoded is reported and left out."""
    await stores.connections.save(connection("a"))
    await stores.connections.save(connection("b", user_id="u2"))
    await stores.connections.save(connection("c", tenant_id="t2"))
    await _raw_ping(stores, "broken", {"S": "yesterday"})
    by_tenant = await stores.connections.list_by_tenant("t1")
    assert sorted(listed.connection_id for listed in by_tenant) == ["a", "b"]
    assert await _ids(stores) == ["a", "c"]
    assert {error.key for error in undecodable} == {"broken"}
    assert await stores.connections.list_by_user("nobody") == []


async def test_a_list_of_connections_may_have_a_limit(stores: Stores) -> None:
    """It has no more connections than that. A limit must be a whole number, 1 or more."""
    for number in range(5):
        await stores.connections.save(connection(f"c{number}"))
    for limit, count in ((1, 1), (3, 3), (5, 5), (9, 5), (None, 5)):
        assert len(await stores.connections.list_by_user("u1", limit=limit)) == count
        assert len(await stores.connections.list_by_tenant("t1", limit=limit)) == count
    with pytest.raises(ValidationError, match="limit"):
        await stores.connections.list_by_user("u1", limit=0)


async def test_stale_connections_are_deleted_with_their_subscriptions(stores: Stores) -> None:
    """Connections last heard from before the given time are deleted. The others are kept."""
    await stores.connections.save(connection("old", last_ping=START - HOUR))
    await stores.connections.save(connection("new", last_ping=START))
    for connection_id in ("old", "new"):
        await stores.subscriptions.subscribe(connection_id, "r1")
        await stores.subscriptions.subscribe(connection_id, "r2")
    assert await stores.connections.delete_stale(START) == 1
    assert await _ids(stores) == ["new"]
    assert await stores.subscriptions.get_by_connection("old") == []
    assert len(await stores.subscriptions.get_by_connection("new")) == 2
    assert await stores.connections.delete_stale(START) == 0


async def test_a_sweep_compares_moments_and_not_text(stores: Stores) -> None:
    """It parses offsets, 0 to 9 digits and the zero time of Go before it compares."""
    before = datetime.fromisoformat("2066-03-14T12:00:00Z")
    pings = {
        "older with offset": "2066-03-14T13:59:59+02:00",
        "younger with offset": "2066-03-14T08:00:00-04:00",
        "older, nine digits": "2066-03-14T11:59:59.999999999Z",
        "younger, no digits": "2066-03-14T12:00:00Z",
        "far older": "2001-01-01T00:00:00Z",
    }
    for name, ping in pings.items():
        await _raw_ping(stores, name, {"S": ping})
    sweep = await stores.connections.sweep_stale(before)
    assert sweep == StaleSweep(found=3, deleted=3)
    left = [name for name in pings if await stores.engine.get(CONNECTIONS, name)]
    assert left == ["younger with offset", "younger, no digits"]


async def test_connected_at_counts_if_there_is_no_last_ping(stores: Stores) -> None:
    """A connection that never pinged is stale if it was opened before the given time."""
    await stores.connections.save(connection("old", connected_at=START - HOUR, last_ping=None))
    await stores.connections.save(connection("new", last_ping=None))
    assert await stores.connections.delete_stale(START) == 1
    assert await _ids(stores) == ["new"]


async def test_a_connection_without_a_time_is_left_to_ttl(
    stores: Stores, undecodable: list[Undecodable]
) -> None:
    """A connection without a valid time is counted, reported and kept."""
    await _raw_ping(stores, "none", None)
    await _raw_ping(stores, "broken", {"S": "yesterday"})
    await _raw_ping(stores, "number", {"N": "5"})
    sweep = await stores.connections.sweep_stale(START)
    assert sweep == StaleSweep(undecodable=3)
    assert sorted(error.key for error in undecodable) == ["broken", "none", "number"]
    assert await stores.engine.get(CONNECTIONS, "none") is not None


async def test_a_dry_run_deletes_nothing(stores: Stores) -> None:
    """It only counts the stale connections."""
    await stores.connections.save(connection(last_ping=START - HOUR))
    assert await stores.connections.sweep_stale(START, dry_run=True) == StaleSweep(found=1)
    assert await _ids(stores) == ["c1"]


async def test_a_sweep_reads_all_pages(stores: Stores) -> None:
    """All stale connections are deleted if there is more than one page of them."""
    for number in range(120):
        await _raw_ping(stores, f"c{number}", {"S": format_time(START - HOUR)})
    assert await stores.connections.delete_stale(START) == 120
    assert await stores.connections.delete_stale(START) == 0


async def test_all_connections_are_listed_over_pages(
    stores: Stores, undecodable: list[Undecodable]
) -> None:
    """All that can be decoded are listed, up to the limit."""
    agent = {"agent": "x" * 20_000}  # DynamoDB's pages end at 1 MB
    for number in range(60):
        await stores.connections.save(connection(f"c{number}", metadata=agent))
    await _raw_ping(stores, "broken", None)
    ids = [listed.connection_id async for listed in stores.connections.list_all()]
    assert sorted(ids) == sorted(f"c{number}" for number in range(60))
    assert [error.key for error in undecodable] == ["broken"]
    some = [listed async for listed in stores.connections.list_all(limit=7)]
    assert len(some) == 7


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "5"])
async def test_a_limit_is_a_whole_number_from_one_on(stores: Stores, limit: Any) -> None:
    """Any other limit is refused with ValidationError."""
    with pytest.raises(ValidationError, match="limit"):
        await anext(aiter(stores.connections.list_all(limit=limit)))


async def test_a_connection_with_the_zero_time_of_go_is_listed(
    stores: Stores, undecodable: list[Undecodable]
) -> None:
    """It receives messages like others, but the sweep does not take the zero time as a time."""
    item = dict(codec.connection_item(connection("zero", last_ping=None)))
    zero = {"S": "0001-01-01T00:00:00Z"}
    await stores.engine.put(Put(table=CONNECTIONS, item=item | {"ConnectedAt": zero}))
    stored = await stores.connections.get("zero")
    assert stored.connected_at == NEVER
    assert await stores.connections.get_many(["zero"]) == {"zero": stored}
    assert await stores.connections.list_by_user(stored.user_id) == [stored]
    assert undecodable == []
    # The zero time does not say when the connection was last heard from.
    assert await stores.connections.sweep_stale(START) == StaleSweep(undecodable=1)
    assert await _ids(stores) == ["zero"]


async def test_an_undecodable_connection_is_reported_with_its_location(stores: Stores) -> None:
    """The error has the operation, the table and the key."""
    await _raw_ping(stores, "broken", {"N": "5"})
    with pytest.raises(Undecodable) as caught:
        await stores.connections.get("broken")
    error = caught.value
    table = stores.engine.table_name(CONNECTIONS)
    assert (error.operation, error.table, error.key) == ("get", table, "broken")
