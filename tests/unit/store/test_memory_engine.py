"""The engine in memory behaves as DynamoDB does."""

from __future__ import annotations

import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from streamer_store import ItemTooLarge, TableNames
from streamer_store.conditions import Absent, Below, Between, Condition, OneOf, Present, equals
from streamer_store.engine import ConditionFailed, Delete, Put, Update
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
    """Return an engine with the item OLD in the table of workers."""
    engine = MemoryEngine()
    await engine.put(Put(table=WORKERS, item=OLD))
    return engine


def row(key: str, **attributes: Any) -> dict[str, Any]:
    return {"WorkerID": {"S": key}} | attributes


async def updated(engine: MemoryEngine, **parts: Any) -> Item:
    return await engine.update(Update(table=WORKERS, key="w1", **parts))


async def test_an_item_is_read_as_it_was_put(engine: MemoryEngine) -> None:
    """Get returns the whole item, or None where there is none."""
    assert await engine.get(WORKERS, "w1") == OLD
    assert await engine.get(WORKERS, "w2") is None


async def test_a_put_replaces_the_whole_item(engine: MemoryEngine) -> None:
    """Attributes of the old item are removed."""
    await engine.put(Put(table=WORKERS, item=row("w1")))
    assert await engine.get(WORKERS, "w1") == row("w1")


async def test_updates_of_two_threads_are_atomic(engine: MemoryEngine) -> None:
    """As those of a worker's loop and of its heartbeat's thread are. None is lost."""
    count = 5_000
    both = threading.Barrier(2)

    async def add() -> None:
        both.wait()
        for _ in range(count):
            await updated(engine, adds={"Beat": {"N": "1"}})

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(anyio.to_thread.run_sync, anyio.run, add)
    finally:
        sys.setswitchinterval(interval)
    item = await engine.get(WORKERS, "w1")
    assert item is not None
    assert item["Beat"] == {"N": str(int(OLD["Beat"]["N"]) + 2 * count)}


async def test_items_are_copied() -> None:
    """Changing an item outside the engine does not change the stored item."""
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
    """The update returns the item after the update, and other attributes are unchanged."""
    expected = {name: value for name, value in (OLD | changed).items() if value is not None}
    assert await updated(engine, **parts) == expected
    assert await engine.get(WORKERS, "w1") == expected


async def test_an_update_that_is_not_returning_returns_an_empty_item(
    engine: MemoryEngine,
) -> None:
    """The item is changed nevertheless."""
    assert await updated(engine, sets={"Name": {"S": "b"}}, returning=False) == {}
    assert await engine.get(WORKERS, "w1") == OLD | {"Name": {"S": "b"}}


async def test_an_update_creates_an_absent_item() -> None:
    """UpdateItem does the same, unless a condition requires an item."""
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
        (Between("Beat", {"N": "3"}, {"N": "3"}), True),
        (Between("Beat", {"N": "-1"}, {"N": "10"}), True),
        (Between("Beat", {"N": "4"}, {"N": "10"}), False),
        (Between("Beat", {"N": "1"}, {"N": "2"}), False),
        (Between("New", {"N": "0"}, {"N": "9"}), False),
        (Between("Name", {"N": "0"}, {"N": "9"}), False),
        (equals("Name", {"S": "a"}), True),
        (equals("Name", None), False),
        (equals("New", None), True),
    ],
)
async def test_each_condition(engine: MemoryEngine, condition: Condition, *, holds: bool) -> None:
    """The write happens if the condition holds. Otherwise it raises ConditionFailed."""
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
    """If one condition fails, nothing is written."""
    conditions = (Present("Name"), Absent("Beat"))
    with pytest.raises(ConditionFailed):
        await updated(engine, sets={"Name": {"S": "b"}}, conditions=conditions)
    assert await engine.get(WORKERS, "w1") == OLD


async def test_a_failed_condition_on_an_absent_item_has_no_old_item() -> None:
    """`old` is None where there is no item."""
    with pytest.raises(ConditionFailed) as caught:
        await updated(MemoryEngine(), conditions=(Present("Name"),))
    assert caught.value.old is None


async def test_deleting_an_absent_item_is_no_error(engine: MemoryEngine) -> None:
    """DeleteItem is idempotent."""
    for _ in range(2):
        await engine.delete(Delete(table=WORKERS, key="w1"))
    assert await engine.get(WORKERS, "w1") is None


async def test_get_many_returns_existing_items_once(engine: MemoryEngine) -> None:
    """Keys may repeat, and absent items are left out."""
    assert await engine.get_many(WORKERS, ["w1", "w2", "w1"]) == [OLD]


async def test_delete_many_deletes_existing_items() -> None:
    """Absent items are no error."""
    engine = MemoryEngine()
    for key in ("a", "b"):
        await engine.put(Put(table=WORKERS, item=row(key)))
    await engine.delete_many(WORKERS, ["a", "a", "c"])
    assert await engine.get_many(WORKERS, ["a", "b"]) == [row("b")]


async def test_put_many_writes_and_replaces_items() -> None:
    """There is no condition. Later changes of the given items have no effect."""
    engine = MemoryEngine()
    await engine.put(Put(table=WORKERS, item=row("a")))
    items = [row("a", New={"S": "x"}), row("b")]
    await engine.put_many(WORKERS, items)
    assert await engine.get_many(WORKERS, ["a", "b"]) == items


async def test_an_item_of_400_kb_is_stored_and_one_byte_more_is_not(engine: MemoryEngine) -> None:
    """After a refused update, the old item is unchanged."""
    empty = row("w1", Pad={"S": ""})
    full = row("w1", Pad={"S": "x" * (MAX_ITEM_BYTES - item_size(empty))})
    await engine.put(Put(table=WORKERS, item=full))
    with pytest.raises(ItemTooLarge):
        await updated(engine, sets={"A": {"S": ""}})
    assert await engine.get(WORKERS, "w1") == full


async def test_tables_are_named_with_the_prefix() -> None:
    """Errors have the full name of the table, as with DynamoDB."""
    assert MemoryEngine(names=TableNames.from_prefix("x_")).table_name(WORKERS) == "x_workers"


async def test_tables_always_exist(engine: MemoryEngine) -> None:
    """Creating does nothing, and checking returns no difference."""
    await engine.create_tables()
    assert await engine.check_tables() == []
    assert await engine.get(WORKERS, "w1") == OLD


async def test_every_call_yields_before_it_acts(engine: MemoryEngine) -> None:
    """A call that is cancelled at that point has no effect. Tests of races depend on it."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        await engine.delete(Delete(table=WORKERS, key="w1"))
    assert await engine.get(WORKERS, "w1") == OLD


async def test_the_old_item_of_a_failed_condition_is_a_copy(engine: MemoryEngine) -> None:
    """Changing it changes nothing in the table."""
    with pytest.raises(ConditionFailed) as failed:
        await engine.put(Put(table=WORKERS, item=row("w1"), conditions=(Absent("WorkerID"),)))
    old: Any = failed.value.old
    assert old == OLD
    old["Name"]["S"] = "changed"
    assert await engine.get(WORKERS, "w1") == OLD
