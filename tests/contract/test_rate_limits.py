"""The permits of rate limits."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from streamer_store import (
    AsyncRequest,
    BulkResult,
    NotFound,
    RequestStatus,
    Stores,
    Undecodable,
    ValidationError,
)
from streamer_store.engine import Put
from streamer_store.rate_limits import LIMIT_PREFIX, PermitTable, limit_name
from streamer_store.rates import MICROSECONDS, Block, Rate, Refused
from streamer_store.schema import REQUESTS
from streamer_store.transfer import export_tables

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000 * MICROSECONDS
SECOND = MICROSECONDS
FAST = Rate(10)
SLOW = Rate(6, timedelta(minutes=1), burst=3)


async def _take(
    stores: Stores, rate: Rate, permits: int = 1, *, now: int = NOW, name: str = "mail"
) -> Block | Refused:
    return await PermitTable(engine=stores.engine).take(name, rate, permits, now=now)


async def _granted(stores: Stores, rate: Rate, permits: int = 1, **options: Any) -> Block:
    block = await _take(stores, rate, permits, **options)
    assert isinstance(block, Block), block
    return block


async def _put(stores: Stores, **attributes: Any) -> None:
    item = {"RequestID": {"S": f"{LIMIT_PREFIX}mail"}} | attributes
    await stores.engine.put(Put(table=REQUESTS, item=item))


async def _stored(stores: Stores) -> Any:
    return await stores.engine.get(REQUESTS, f"{LIMIT_PREFIX}mail")


async def test_permits_follow_each_other_at_the_rate(stores: Stores) -> None:
    """Each taker gets the next times, from now on, and a last one half a second ahead of them."""
    first, second = await _granted(stores, FAST, 5), await _granted(stores, FAST, 5)
    assert [first.good_from(number) - NOW for number in range(5)] == [
        number * SECOND // 10 for number in range(5)
    ]
    assert second.good_from(0) == NOW + SECOND // 2
    assert first.good_until(4) == first.good_from(4) + FAST.lifetime
    assert await _take(stores, FAST) == Refused(retry_at=NOW + SECOND // 2)
    third = await _granted(stores, FAST, now=NOW + SECOND // 2)
    assert third.good_from(0) == NOW + SECOND


@pytest.mark.parametrize("old", [Rate(1, timedelta(minutes=1)), Rate(50, burst=3000)])
async def test_a_faster_rate_does_not_wait_for_the_slower_one(stores: Stores, old: Rate) -> None:
    """After a deploy, for example from one a minute."""
    taken = 0
    while isinstance(await _take(stores, old, old.block), Block):
        taken += 1
    assert taken >= 1
    block = await _granted(stores, FAST, now=NOW + SECOND)
    assert block.good_from(0) == NOW + SECOND


async def test_a_burst_is_good_at_once_after_a_pause(stores: Stores) -> None:
    """After it the permits come at the rate. A permit of a slow rate is good until the next."""
    blocks = [await _granted(stores, SLOW) for _ in range(3)]
    assert [block.good_from(0) for block in blocks] == [NOW] * 3
    assert blocks[0].good_until(0) == NOW + SLOW.lifetime
    assert await _take(stores, SLOW) == Refused(retry_at=NOW + 10 * SECOND - SECOND // 2)
    later = NOW + 10 * SECOND - SECOND // 2
    assert (await _granted(stores, SLOW, now=later)).good_from(0) == NOW + 10 * SECOND
    again = NOW + 3600 * SECOND
    assert [(await _granted(stores, SLOW, now=again)).good_from(0) for _ in range(3)] == [again] * 3


async def test_a_pause_saves_up_no_more_than_the_burst(stores: Stores) -> None:
    """A taker that comes back after an hour starts where one would that was never there."""
    await _granted(stores, FAST, 5)
    block = await _granted(stores, FAST, 5, now=NOW + 3600 * SECOND)
    assert block.good_from(4) == NOW + 3600 * SECOND + 4 * SECOND // 10


async def test_the_item_is_no_request(stores: Stores, undecodable: list[Undecodable]) -> None:
    """It is not listed, shown, counted, cancelled or deleted, and TTL deletes it after a day."""
    await _granted(stores, FAST)
    await stores.requests.enqueue(AsyncRequest(action="mail", request_id="r1"))
    key = f"{LIMIT_PREFIX}mail"
    requests = stores.requests
    for change in (requests.get, requests.cancel, requests.redrive):
        with pytest.raises(NotFound):
            await change(key)
    assert list(await requests.get_many(["r1", key])) == ["r1"]
    results: list[BulkResult[None]] = []
    await requests.delete_many([key], statuses=list(RequestStatus), on_result=results.append)
    await requests.delete(key)
    assert isinstance(results[0].error, NotFound)
    assert (await requests.depth(RequestStatus.PENDING, limit=10)).count == 1
    listed = [request async for request in requests.get_by_status(RequestStatus.PENDING)]
    assert [request.request_id for request in listed] == ["r1"]
    item = await _stored(stores)
    assert set(item) == {"RequestID", "TAT", "TTL"}
    assert int(item["TTL"]["N"]) == (NOW + SECOND // 10) // SECOND + 86_400
    assert not undecodable


async def test_an_export_leaves_the_item_out(stores: Stores, tmp_path: Path) -> None:
    """It belongs to the moment: a copy of the tables starts without it."""
    await _granted(stores, FAST)
    await stores.requests.enqueue(AsyncRequest(action="mail", request_id="r1"))
    exported = await export_tables(stores, tmp_path / "export")
    assert exported.items["requests"] == 1


@pytest.mark.parametrize(
    "tat",
    [
        {"S": "2026-03-14T12:00:00Z"},
        {"NULL": True},
        {"N": "1E+30"},
        {"N": str(NOW + 3600 * SECOND)},
        {"N": "-5"},
        {"N": f"{NOW - 1}.5"},
    ],
    ids=["text", "null", "huge", "an hour ahead", "negative", "fraction"],
)
async def test_a_time_that_no_taker_wrote_is_replaced(stores: Stores, tat: Any) -> None:
    """Rubbish, and the time of a slower rate of an earlier release, hold up nobody."""
    await _put(stores, TAT=tat, Color={"S": "red"})
    block = await _granted(stores, FAST, 2)
    assert (block.good_from(0), block.good_from(1)) == (NOW, NOW + SECOND // 10)
    assert (await _stored(stores))["Color"] == {"S": "red"}


async def test_a_request_under_the_id_of_a_limit_stays_one(stores: Stores) -> None:
    """Another program can enqueue under any id. Its request is found, and the limit works."""
    await _put(
        stores,
        Status={"S": "PENDING"},
        CreatedAt={"S": "2026-03-14T12:00:00Z"},
        Action={"S": "mail"},
    )
    await _granted(stores, FAST, 5)
    await _granted(stores, FAST, 5)
    assert isinstance(await _take(stores, FAST), Refused)
    assert (await stores.requests.get(f"{LIMIT_PREFIX}mail")).action == "mail"


async def test_names_of_actions_and_tenants_never_meet(stores: Stores) -> None:
    """A `#` in a name is escaped, and a name that is too long for a key is hashed."""
    names = [
        limit_name("a", "b"),
        limit_name("a#b"),
        limit_name("a%23b"),
        limit_name("a", "é" * 2000),
        limit_name("a", "é" * 2001),
    ]
    assert len(set(names)) == len(names)
    for name in names:
        await _granted(stores, FAST, 5, name=name)


@pytest.mark.parametrize("permits", [0, 6])
async def test_a_wrong_number_of_permits_is_refused(stores: Stores, permits: int) -> None:
    """A block has at most half a second's worth."""
    with pytest.raises(ValidationError):
        await _take(stores, FAST, permits)


@pytest.mark.local
async def test_takers_do_not_lose_to_each_other(local_stores: Stores) -> None:
    """Of 32 at the same moment, all that the allowance covers get permits, each different ones."""
    taken: list[Block | Refused] = []

    async def take() -> None:
        taken.append(await _take(local_stores, Rate(100, burst=10), 10))

    async with anyio.create_task_group() as tasks:
        for _ in range(32):
            tasks.start_soon(take)
    blocks = [each for each in taken if isinstance(each, Block)]
    arrivals = sorted(block.arrival for block in blocks)
    assert arrivals == [NOW + number * SECOND // 10 for number in range(len(blocks))]
    assert len(blocks) == 6
