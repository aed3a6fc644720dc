"""Which writes share a call, and what each caller gets from it."""

from __future__ import annotations

import anyio
import pytest

from streamer_store.conditions import Absent, Below, Condition, OneOf, Present
from streamer_store.engine import ConditionFailed, Delete, Put, Update, Write
from streamer_store.group_commit import GroupCommitEngine
from streamer_store.memory import MemoryEngine
from streamer_store.schema import REQUESTS, WORKERS
from streamer_store.write_queue import can_share_call
from unit.store.batching import (
    RecordingEngine,
    change,
    held,
    in_virtual_time,
    insert,
    outcomes,
    reach,
    store,
)

pytestmark = pytest.mark.anyio


SETS = {"Version": {"S": "v1"}}
NUMBER = {"N": "1"}
SOLID: tuple[Condition, ...] = (Present("Status"),)


@pytest.mark.parametrize(
    ("write", "shares"),
    [
        (Update(table=REQUESTS, key="r", sets=SETS, conditions=SOLID), True),
        (
            Update(
                table=REQUESTS,
                key="r",
                sets={"WriteSeq": NUMBER},
                removes=("Error",),
                conditions=(Absent("Result"), Below("WriteSeq", NUMBER)),
            ),
            True,
        ),
        (Update(table=REQUESTS, key="r", sets=SETS), False),
        (Update(table=REQUESTS, key="r", sets=SETS, conditions=(Absent("Result"),)), False),
        (Update(table=REQUESTS, key="r", sets={"TTL": NUMBER}, conditions=SOLID), False),
        (
            Update(table=REQUESTS, key="r", sets=SETS, adds={"Beat": NUMBER}, conditions=SOLID),
            False,
        ),
        (
            Update(
                table=REQUESTS, key="r", sets=SETS, if_not_exists={"A": NUMBER}, conditions=SOLID
            ),
            False,
        ),
        (
            Update(
                table=REQUESTS, key="r", sets=SETS, deletes={"A": {"SS": ["a"]}}, conditions=SOLID
            ),
            False,
        ),
        (Delete(table=REQUESTS, key="r", conditions=(*SOLID, OneOf("Version", (NUMBER,)))), True),
        (Delete(table=REQUESTS, key="r", conditions=(Absent("Version"),)), False),
        (Delete(table=REQUESTS, key="r"), False),
        (insert("r"), True),
        (Put(table=REQUESTS, item=insert("r").item), False),
        (Put(table=REQUESTS, item=insert("r").item, conditions=(Absent("Status"),)), False),
    ],
)
def test_a_write_shares_a_call_if_a_batch_does_the_same(write: Write, *, shares: bool) -> None:
    """No upsert, addition or deletion is in a batch, and nothing that cannot find its copy."""
    assert can_share_call(write) is shares


async def test_a_write_that_is_alone_is_a_call_of_its_own(
    engine: GroupCommitEngine, inner: RecordingEngine
) -> None:
    """It leaves in the next round of the event loop, and meets ConditionFailed as always."""
    await engine.put(insert("a"))
    assert (await engine.update(change("a")))["Version"] == {"S": "v1"}
    with pytest.raises(ConditionFailed) as failed:
        await engine.update(change("a"))
    assert failed.value.old is not None
    assert failed.value.old["Version"] == {"S": "v1"}
    assert (inner.calls, inner.reads) == ([["a"], ["a"], ["a"]], [])


async def test_the_writes_of_one_round_leave_together(
    engine: GroupCommitEngine, inner: RecordingEngine
) -> None:
    """Writes of any kind and table share a call, and each caller gets its own item."""
    await store(inner, "a", "b", "d")
    delete = Delete(table=REQUESTS, key="d", conditions=(OneOf("Version", ({"S": "v0"},)),))
    worker = Put(table=WORKERS, item={"WorkerID": {"S": "a"}}, conditions=(Absent("WorkerID"),))
    first, second, put, other, deleted = await outcomes(
        engine, [change("a", "v1"), change("b", "v2"), insert("c"), worker, delete]
    )
    assert inner.calls == [["a", "b", "c", "a", "d"]]
    assert deleted is None
    assert await inner.get(REQUESTS, "d") is None
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert (first["RequestID"], first["Version"]) == ({"S": "a"}, {"S": "v1"})
    assert (second["RequestID"], second["Version"]) == ({"S": "b"}, {"S": "v2"})
    assert (put, other) == (None, None)
    assert await inner.get(REQUESTS, "c") == insert("c").item


async def test_a_call_has_25_writes_at_most(
    engine: GroupCommitEngine, inner: RecordingEngine
) -> None:
    """Sixty writes are three calls, in the order in which they were made."""
    keys = [f"r{number}" for number in range(60)]
    assert await outcomes(engine, [insert(key) for key in keys]) == [None] * 60
    assert inner.calls == [keys[:25], keys[25:50], keys[50:]]


@in_virtual_time
async def test_writes_wait_while_a_call_is_under_way(
    engine: GroupCommitEngine, inner: RecordingEngine
) -> None:
    """They leave together as soon as the call ends."""
    async with anyio.create_task_group() as tasks, held(inner):
        tasks.start_soon(engine.put, insert("a"))
        await reach(inner)
        tasks.start_soon(engine.put, insert("b"))
        tasks.start_soon(engine.put, insert("c"))
        await anyio.wait_all_tasks_blocked()
        assert inner.calls == [["a"]]
    assert [sorted(keys) for keys in inner.calls] == [["a"], ["b", "c"]]


@in_virtual_time
async def test_calls_of_25_writes_wait_for_none(
    engine: GroupCommitEngine, inner: RecordingEngine
) -> None:
    """Eight of them are under way at once. The last writes, fewer than 25, wait."""
    async with anyio.create_task_group() as tasks, held(inner):
        for number in range(240):
            tasks.start_soon(engine.put, insert(f"r{number}"))
        await anyio.wait_all_tasks_blocked()
        assert [len(keys) for keys in inner.calls] == [25] * 8
    assert [len(keys) for keys in inner.calls] == [25] * 9 + [15]


@in_virtual_time
async def test_a_slow_call_does_not_make_others_wait(
    engine: GroupCommitEngine, inner: RecordingEngine
) -> None:
    """After a tenth of a second, calls without an answer hold nobody back."""
    async with anyio.create_task_group() as tasks, held(inner):
        for key in ("a", "b", "c"):
            began = anyio.current_time()
            tasks.start_soon(engine.put, insert(key))
            await reach(inner)
            assert anyio.current_time() - began < 0.15
        assert inner.calls == [["a"], ["b"], ["c"]]


async def test_a_call_has_each_key_once(engine: GroupCommitEngine, inner: RecordingEngine) -> None:
    """DynamoDB refuses a batch with a key twice. The second write leaves with the next call."""
    writes = [insert("a"), insert("b"), insert("a"), insert("c")]
    first, _, second, _ = await outcomes(engine, writes)
    assert inner.calls == [["a", "b", "c"], ["a"]]
    assert first is None
    assert isinstance(second, ConditionFailed)


async def test_the_size_of_a_call_is_bounded(
    engine: GroupCommitEngine, inner: RecordingEngine
) -> None:
    """A call sends 1 MB at most, and expects no more than that back."""
    big = "x" * 390_000
    keys = [f"r{number}" for number in range(5)]
    assert await outcomes(engine, [insert(key, Text=big) for key in keys]) == [None] * 5
    assert inner.calls == [keys[:2], keys[2:4], keys[4:]]
    inner.calls.clear()
    claims = [change(key, "v1") for key in keys[:2]]
    for update in claims:
        await MemoryEngine.update(inner, change(update.key, "v0", text=big))
    await outcomes(engine, [change(key, "v1", text=big) for key in keys])
    inner.calls.clear()
    await outcomes(engine, [change(key, "v2", seen="v1") for key in keys])
    assert inner.calls == [keys[:2], keys[2:4], keys[4:]]
