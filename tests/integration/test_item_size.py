"""Our computed size of an item equals DynamoDB's, to the byte."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from streamer_store import ItemTooLarge, StoreError, open_stores
from streamer_store.engine import Engine, Put, Update
from streamer_store.schema import WORKERS
from streamer_store.values import MAX_ITEM_BYTES, MAX_KEY_BYTES, Item, encode, item_size
from support import client_of, unique_prefix

pytestmark = [pytest.mark.anyio, pytest.mark.local]

NUMBERS = [
    *("0", "1", "9", "10", "12", "99", "100", "123", "1000", "1234", "12345", "100000"),
    *("1.5", "0.1", "0.12", "0.123", "0.01", "0.001", "0.0012", "1.25", "12.5", "120.5"),
    *("-1", "-12", "-123", "-0.5", "-1.25", "1E+20", "1E+21", "-1E+20", "12E+20", "12E+21"),
    *("1E-20", "1E-21", "12E-21", "1E-130", "1E+125", "9" * 38, "-" + "9" * 38),
    *("1" * 29, "1" * 37, "0." + "1" * 38, "1." + "2" * 37, "10.01", "1000000.000001"),
]
VALUES: list[Any] = [
    *(None, True, False),
    *("", "abc", "ü", "€", "😀", "a€😀"),
    *(b"", b"\x00\x01\x02"),
    *([], {}, [[]], {"a": {}}, [None, True], [1, "two", b"3"]),
    *({"a": 1}, {"ab": "c", "ü": None}, {"a": [{"b": [1, 2.5]}, "c"]}),
    *({"a"}, {"a", "bc", "ü"}, {""}, {1}, {1, -22, 0.333}, {b""}, {b"a", b"bc"}),
]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def engine(local_url: str) -> AsyncIterator[Engine]:
    prefix = unique_prefix()
    async with open_stores(endpoint_url=local_url, prefix=prefix) as stores:
        await stores.create_tables()
        yield stores.engine
        client = client_of(stores.engine)
        for table in ("connections", "requests", "subscriptions", "workers"):
            await client.delete_table(TableName=prefix + table)


def padded(value: Any, size: int) -> Item:
    """Return an item with `value` that has exactly this size."""
    item = {"WorkerID": {"S": "k"}, "Välue": value, "Pad": {"S": ""}}
    return item | {"Pad": {"S": "x" * (size - item_size(item))}}


async def held_to_the_byte(engine: Engine, value: Any) -> None:
    await engine.put(Put(table=WORKERS, item=padded(value, MAX_ITEM_BYTES)))
    with pytest.raises(ItemTooLarge):
        await engine.put(Put(table=WORKERS, item=padded(value, MAX_ITEM_BYTES + 1)))


@pytest.mark.parametrize("number", NUMBERS)
async def test_numbers_are_counted_to_the_byte(engine: Engine, number: str) -> None:
    """An item of 400 KB by our count is accepted. One byte more is refused."""
    await held_to_the_byte(engine, encode(Decimal(number)))


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
async def test_values_are_counted_to_the_byte(engine: Engine, value: Any) -> None:
    """An item of 400 KB by our count is accepted. One byte more is refused."""
    await held_to_the_byte(engine, encode(value))


async def test_an_update_past_the_limit_is_refused_as_a_put_is(engine: Engine) -> None:
    """The update raises ItemTooLarge, and the item is unchanged."""
    full = padded({"S": "a"}, MAX_ITEM_BYTES)
    await engine.put(Put(table=WORKERS, item=full))
    with pytest.raises(ItemTooLarge):
        await engine.update(Update(table=WORKERS, key="k", sets={"More": {"NULL": True}}))
    assert await engine.get(WORKERS, "k") == full


@pytest.mark.parametrize("key", ["k" * MAX_KEY_BYTES, "é" * (MAX_KEY_BYTES // 2)])
async def test_the_longest_key_is_accepted(engine: Engine, key: str) -> None:
    """One byte more is refused: our limit is DynamoDB's."""
    await engine.put(
        Put(table=WORKERS, item={"WorkerID": {"S": "k"}, "V": encode({"a": {key: 1}})})
    )
    longer = {"M": {"a": {"M": {"k" * (MAX_KEY_BYTES + 1): {"N": "1"}}}}}
    with pytest.raises(StoreError, match="key"):
        await engine.put(Put(table=WORKERS, item={"WorkerID": {"S": "k"}, "V": longer}))


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_a_body_that_servers_refuse_is_too_large(engine: Engine) -> None:
    """It raises ItemTooLarge, and not an outage, which the worker would wait for."""
    huge = {"WorkerID": {"S": "k"}, "V": {"S": "x" * 50_000_000}}
    with pytest.raises(ItemTooLarge):
        await engine.put(Put(table=WORKERS, item=huge))


@pytest.mark.parametrize("inside", [1, {"a"}, {}, []], ids=repr)
async def test_the_deepest_value_is_accepted(engine: Engine, inside: Any) -> None:
    """DynamoDB accepts the deepest value that `encode` accepts."""
    levels = 30 if inside in ({}, []) else 31
    value = inside
    for _ in range(levels):
        value = {"a": value}
    await engine.put(Put(table=WORKERS, item={"WorkerID": {"S": "k"}, "V": encode(value)}))
