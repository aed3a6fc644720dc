"""The engine in memory does to dictionaries what DynamoDB does to items."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from streamer_store import ItemTooLarge
from streamer_store.engine import (
    Absent,
    Below,
    Condition,
    ConditionFailed,
    Delete,
    OneOf,
    Present,
    Put,
    Update,
    equals,
)
from streamer_store.memory import MemoryEngine
from streamer_store.schema import WORKERS
from streamer_store.values import MAX_ITEM_BYTES, Item, item_size

pytestmark = pytest.mark.anyio

OLD: dict[str, Any] = {
    "WorkerID": {"S": "w1"},
    "Name": {"S": "a"},
    "Beat": {"N": "3"},
    "Cancel": {"SS": ["v1", "v2"]},
}


@pytest.fixture
async def engine() -> MemoryEngine:
    """Give an engine that holds OLD in the workers' table."""
    made = MemoryEngine()
    await made.put(Put(table=WORKERS, item=OLD))
    return made


def row(key: str, **attributes: Any) -> dict[str, Any]:
    return {"WorkerID": {"S": key}} | attributes


async def updated(engine: MemoryEngine, **parts: Any) -> Item:
    return await engine.update(Update(table=WORKERS, key="w1", **parts))


async def test_an_item_is_read_as_it_was_put(engine: MemoryEngine) -> None:
    """Get returns the whole item, or None where there is none."""
    assert await engine.get(WORKERS, "w1") == OLD
    assert await engine.get(WORKERS, "w2") is None


async def test_a_put_replaces_the_whole_item(engine: MemoryEngine) -> None:
    """Attributes of the old item do not survive a put."""
    await engine.put(Put(table=WORKERS, item=row("w1")))
    assert await engine.get(WORKERS, "w1") == row("w1")


async def test_what_was_put_or_read_is_not_shared() -> None:
    """Changing an item outside changes nothing inside."""
    engine = MemoryEngine()
    item = row("w1", Deep={"L": [{"S": "a"}]})
    await engine.put(Put(table=WORKERS, item=item))
    item["Deep"]["L"].append({"S": "b"})
    read = await engine.get(WORKERS, "w1")
    assert read == row("w1", Deep={"L": [{"S": "a"}]})
    read["Deep"]["L"].clear()
    assert await engine.get(WORKERS, "w1") == row("w1", Deep={"L": [{"S": "a"}]})


@pytest.mark.parametrize(
    ("parts", "changed"),
    [
        ({"sets": {"Name": {"S": "b"}}}, {"Name": {"S": "b"}}),
        ({"sets": {"New": {"S": "b"}}}, {"New": {"S": "b"}}),
        ({"if_not_exists": {"Name": {"S": "b"}}}, {}),
        ({"if_not_exists": {"New": {"S": "b"}}}, {"New": {"S": "b"}}),
        ({"removes": ("Name", "Nothing")}, {"Name": None}),
        ({"adds": {"Beat": {"N": "1"}}}, {"Beat": {"N": "4"}}),
        ({"adds": {"Beat": {"N": "-3"}}}, {"Beat": {"N": "0"}}),
        ({"adds": {"New": {"N": "2"}}}, {"New": {"N": "2"}}),
        ({"adds": {"Cancel": {"SS": ["v2", "v3"]}}}, {"Cancel": {"SS": ["v1", "v2", "v3"]}}),
        ({"adds": {"New": {"SS": ["a"]}}}, {"New": {"SS": ["a"]}}),
        ({"deletes": {"Cancel": {"SS": ["v1", "v9"]}}}, {"Cancel": {"SS": ["v2"]}}),
        ({"deletes": {"Cancel": {"SS": ["v1", "v2"]}}}, {"Cancel": None}),
        ({"deletes": {"New": {"SS": ["v1"]}}}, {}),
    ],
)
async def test_each_part_of_an_update(engine: MemoryEngine, parts: Any, changed: Any) -> None:
    """The update returns the item as it is afterwards; the rest of it stays."""
    expected = {name: value for name, value in (OLD | changed).items() if value is not None}
    assert await updated(engine, **parts) == expected
    assert await engine.get(WORKERS, "w1") == expected


async def test_an_update_that_need_not_return_the_item_returns_an_empty_one(
    engine: MemoryEngine,
) -> None:
    """The write happens; whoever relied on the answer would notice here."""
    assert await updated(engine, sets={"Name": {"S": "b"}}, returning=False) == {}
    assert await engine.get(WORKERS, "w1") == OLD | {"Name": {"S": "b"}}


async def test_an_update_makes_the_item_that_is_not_there() -> None:
    """As UpdateItem does, where no condition forbids it."""
    engine = MemoryEngine()
    assert await updated(engine, sets={"Name": {"S": "a"}}) == row("w1", Name={"S": "a"})


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (Absent("Name"), False),
        (Absent("New"), True),
        (Present("Name"), True),
        (Present("New"), False),
        (OneOf("Name", ({"S": "b"}, {"S": "a"})), True),
        (OneOf("Name", ({"S": "b"},)), False),
        (OneOf("Name", ({"B": b"a"},)), False),
        (OneOf("New", ({"S": "a"},)), False),
        (Below("Beat", {"N": "4"}), True),
        (Below("Beat", {"N": "10"}), True),
        (Below("Beat", {"N": "3"}), False),
        (Below("New", {"N": "4"}), False),
        (Below("Name", {"N": "4"}), False),
        (equals("Name", {"S": "a"}), True),
        (equals("Name", None), False),
        (equals("New", None), True),
    ],
)
async def test_each_condition(engine: MemoryEngine, condition: Condition, *, holds: bool) -> None:
    """A write happens if its condition holds, and else fails with the old item."""
    writes: list[Callable[[], Awaitable[object]]] = [
        lambda: updated(engine, conditions=(condition,)),
        lambda: engine.put(Put(table=WORKERS, item=OLD, conditions=(condition,))),
        lambda: engine.delete(Delete(table=WORKERS, key="w1", conditions=(condition,))),
    ]
    for write in writes:
        if holds:
            await write()
        else:
            with pytest.raises(ConditionFailed) as caught:
                await write()
            assert caught.value.old == OLD


async def test_all_conditions_must_hold(engine: MemoryEngine) -> None:
    """One that fails is enough, and then nothing is written."""
    conditions = (Present("Name"), Absent("Beat"))
    with pytest.raises(ConditionFailed):
        await updated(engine, sets={"Name": {"S": "b"}}, conditions=conditions)
    assert await engine.get(WORKERS, "w1") == OLD


async def test_a_condition_on_nothing_tells_that_there_was_nothing() -> None:
    """The old item is None where there is no item."""
    with pytest.raises(ConditionFailed) as caught:
        await updated(MemoryEngine(), conditions=(Present("Name"),))
    assert caught.value.old is None


async def test_deleting_what_is_not_there_is_no_error(engine: MemoryEngine) -> None:
    """As DeleteItem, which is idempotent."""
    for _ in range(2):
        await engine.delete(Delete(table=WORKERS, key="w1"))
    assert await engine.get(WORKERS, "w1") is None


async def test_many_are_read_once_each_and_absent_ones_left_out(engine: MemoryEngine) -> None:
    """Keys may repeat; those without an item are not in the answer."""
    assert await engine.get_many(WORKERS, ["w1", "w2", "w1"]) == [OLD]


async def test_many_are_deleted() -> None:
    """Deleting what is gone is no error."""
    engine = MemoryEngine()
    for key in ("a", "b"):
        await engine.put(Put(table=WORKERS, item=row(key)))
    await engine.delete_many(WORKERS, ["a", "a", "c"])
    assert await engine.get_many(WORKERS, ["a", "b"]) == [row("b")]


async def test_an_item_of_400_kb_is_stored_and_one_byte_more_is_not(engine: MemoryEngine) -> None:
    """The limit is DynamoDB's; the old item stays when an update would pass it."""
    empty = row("w1", Pad={"S": ""})
    full = row("w1", Pad={"S": "x" * (MAX_ITEM_BYTES - item_size(empty))})
    await engine.put(Put(table=WORKERS, item=full))
    with pytest.raises(ItemTooLarge):
        await updated(engine, sets={"A": {"S": ""}})
    assert await engine.get(WORKERS, "w1") == full


async def test_tables_are_named_with_the_prefix() -> None:
    """Errors name the table as DynamoDB would."""
    assert MemoryEngine(prefix="x_").table_name(WORKERS) == "x_workers"


async def test_there_is_nothing_to_make_or_to_miss(engine: MemoryEngine) -> None:
    """Tables in memory are always there and always right."""
    await engine.create_tables()
    assert await engine.check_tables() == []
    assert await engine.get(WORKERS, "w1") == OLD


async def test_every_call_lets_others_run_before_it_acts(engine: MemoryEngine) -> None:
    """Tests of races depend on it: a call that is cancelled first has done nothing."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        await engine.delete(Delete(table=WORKERS, key="w1"))
    assert await engine.get(WORKERS, "w1") == OLD
