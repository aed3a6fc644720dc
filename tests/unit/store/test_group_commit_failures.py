"""What each caller gets when a batch, or a write in it, fails."""

from __future__ import annotations

import random

import anyio
import pytest

from streamer_store import AccessDenied, InvalidInput, StoreError, StoreUnavailable, TableMissing
from streamer_store.engine import ConditionFailed, Refusal
from streamer_store.group_commit import GroupCommitEngine
from streamer_store.memory import MemoryEngine
from streamer_store.schema import REQUESTS
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


def versions(found: list[object]) -> list[str]:
    """Return the Versions of the returned items."""
    assert all(isinstance(item, dict) for item in found), found
    return [item["Version"]["S"] for item in found]  # type: ignore[index]


async def test_a_failed_condition_comes_with_the_item(
    engine: GroupCommitEngine, inner: RecordingEngine
) -> None:
    """A batch does not return the items on which conditions failed: they are read, in one call."""
    await store(inner, "a", "b", "c")
    first, second, done, gone = await outcomes(
        engine,
        [change("a", seen="other"), change("b", seen="other"), change("c"), change("gone")],
    )
    assert isinstance(first, ConditionFailed)
    assert isinstance(second, ConditionFailed)
    assert isinstance(gone, ConditionFailed)
    assert (first.old, second.old) == (insert("a").item, insert("b").item)
    assert gone.old is None
    assert versions([done]) == ["v1"]
    assert inner.reads == [["a", "b", "gone"]]
    assert len(inner.calls) == 1


async def test_an_unknown_item_is_never_reported_as_absent(
    engine: GroupCommitEngine, inner: RecordingEngine
) -> None:
    """Without an answer to the read, callers get StoreUnavailable."""
    await store(inner, "a", "b")
    inner.read_error = StoreUnavailable("injected")
    found = await outcomes(engine, [change("a", seen="other"), change("b", seen="other")])
    assert [(type(error), error.key) for error in found if isinstance(error, StoreError)] == [
        (StoreUnavailable, "a"),
        (StoreUnavailable, "b"),
    ]


async def test_without_permission_to_read_each_write_asks_again(
    engine: GroupCommitEngine, inner: RecordingEngine
) -> None:
    """An UpdateItem returns the item on which its condition failed."""
    await store(inner, "a", "b")
    inner.read_error = AccessDenied("injected")
    found = await outcomes(engine, [change("a", seen="other"), change("b", seen="other")])
    assert [error.old for error in found if isinstance(error, ConditionFailed)] == [
        insert("a").item,
        insert("b").item,
    ]
    assert inner.calls == [["a", "b"], ["a"], ["b"]]


async def test_an_outage_fails_every_write_of_the_call(
    engine: GroupCommitEngine, inner: RecordingEngine
) -> None:
    """Each caller gets an error of its own, with its own key. Nothing is sent again."""
    inner.error = StoreUnavailable("injected", operation="BatchExecuteStatement")
    found = await outcomes(engine, [insert("a"), insert("b")])
    errors = [error for error in found if isinstance(error, StoreUnavailable)]
    assert [error.key for error in errors] == ["a", "b"]
    assert errors[0] is not errors[1]
    assert inner.calls == [["a", "b"]]


@pytest.mark.parametrize("error", [InvalidInput("injected"), TableMissing("injected"), OSError()])
async def test_a_batch_that_is_refused_as_a_whole_is_sent_one_by_one(
    engine: GroupCommitEngine, inner: RecordingEngine, error: Exception
) -> None:
    """One wrong value refuses all writes. Alone, only its own write meets the error."""
    inner.error = error
    assert await outcomes(engine, [insert("a"), insert("b")]) == [None, None]
    assert inner.calls == [["a", "b"], ["a"], ["b"]]
    await outcomes(engine, [insert("c"), insert("d")])
    assert inner.calls[3:] == [["c", "d"], ["c"], ["d"]]


async def test_batches_stop_for_five_minutes_where_they_are_denied(
    engine: GroupCommitEngine, inner: RecordingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy from before batches still works, at one call for each write."""
    inner.error = AccessDenied("injected")
    assert await outcomes(engine, [insert("a"), insert("b")]) == [None, None]
    inner.error = None
    assert await outcomes(engine, [insert("c"), insert("d")]) == [None, None]
    assert inner.calls == [["a", "b"], ["a"], ["b"], ["c"], ["d"]]
    later = anyio.current_time() + 301
    monkeypatch.setattr(anyio, "current_time", lambda: later)
    assert await outcomes(engine, [insert("e"), insert("f")]) == [None, None]
    assert inner.calls[5:] == [["e", "f"]]


@pytest.mark.parametrize("refusal", [Refusal.INVALID, Refusal.THROTTLED, Refusal.DENIED])
async def test_a_write_that_is_refused_in_a_batch_is_sent_alone(
    engine: GroupCommitEngine, inner: RecordingEngine, refusal: Refusal
) -> None:
    """The others have their answers at once, and it meets its own error, if it has one."""
    await store(inner, "a", "b", "c")
    inner.answer = lambda write: refusal if write.key == "b" else None
    found = await outcomes(engine, [change("a"), change("b"), change("c")])
    assert versions(found) == ["v1", "v1", "v1"]
    assert inner.calls == [["a", "b", "c"], ["b"]]
    inner.answer = lambda _: None
    await outcomes(engine, [insert("d"), insert("e")])
    assert inner.calls[2:] == ([["d"], ["e"]] if refusal is Refusal.DENIED else [["d", "e"]])


async def test_a_throttled_write_does_not_hold_up_the_others(
    engine: GroupCommitEngine, inner: RecordingEngine
) -> None:
    """Writes that took effect answer while a throttled one of the same batch still waits."""
    await store(inner, "a", "b")
    inner.answer = lambda write: Refusal.THROTTLED if write.key == "b" else None
    answered: list[str] = []

    async def write(key: str) -> None:
        await engine.update(change(key))
        answered.append(key)
        inner.gate.set()

    async with anyio.create_task_group() as tasks:
        async with held(inner):
            tasks.start_soon(write, "a")
            tasks.start_soon(write, "b")
            await reach(inner)
        inner.gate = anyio.Event()  # held until "a" has its answer
    assert answered == ["a", "b"]


@in_virtual_time
async def test_a_caller_that_is_cancelled_takes_its_write_back(
    engine: GroupCommitEngine, inner: RecordingEngine
) -> None:
    """A write that was not sent has no effect, and the others of its batch have theirs."""
    scope = anyio.CancelScope()

    async def cancelled() -> None:
        with scope:
            await engine.put(insert("c"))

    async with anyio.create_task_group() as tasks, held(inner):
        for key in ("a", "b"):
            tasks.start_soon(engine.put, insert(key))
            await reach(inner)
        tasks.start_soon(engine.put, insert("d"))
        tasks.start_soon(cancelled)
        tasks.start_soon(engine.put, insert("e"))
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
        await anyio.wait_all_tasks_blocked()
    assert [sorted(keys) for keys in inner.calls] == [["a"], ["b"], ["d", "e"]]
    assert await inner.get(REQUESTS, "c") is None


async def test_one_of_25_callers_is_cancelled_while_the_call_is_under_way(
    engine: GroupCommitEngine, inner: RecordingEngine
) -> None:
    """The other 24 get their items. The write itself takes effect."""
    keys = [f"r{number:02}" for number in range(25)]
    await store(inner, *keys)
    scope = anyio.CancelScope()
    found: dict[str, object] = {}

    async def write(key: str) -> None:
        with scope if key == "r07" else anyio.CancelScope():
            found[key] = await engine.update(change(key))

    async with anyio.create_task_group() as tasks, held(inner):
        for key in keys:
            tasks.start_soon(write, key)
        await reach(inner)
        scope.cancel()
        await anyio.wait_all_tasks_blocked()
        assert not found
    assert sorted(found) == [key for key in keys if key != "r07"]
    stored = await inner.get(REQUESTS, "r07")
    assert stored is not None
    assert stored["Version"] == {"S": "v1"}


async def test_closing_answers_every_caller(inner: RecordingEngine, rng: random.Random) -> None:
    """Callers whose writes wait or are under way get StoreUnavailable, and nothing is left."""
    errors: dict[str, StoreUnavailable] = {}

    async def write(key: str) -> None:
        try:
            await engine.put(insert(key))
        except StoreUnavailable as error:
            errors[error.key] = error

    inner.gate = anyio.Event()
    async with anyio.create_task_group() as calls, anyio.create_task_group() as tasks:
        engine = GroupCommitEngine(inner, tasks=calls, rng=rng)
        for key in ("a", "b", "c", "d"):
            tasks.start_soon(write, key)
            if key < "c":
                await reach(inner)
        await anyio.wait_all_tasks_blocked()
        engine.close()
        calls.cancel_scope.cancel()
    assert sorted(errors) == ["a", "b", "c", "d"]
    assert await inner.get(REQUESTS, "a") is None


async def test_stores_that_cannot_be_used_accept_no_write(
    inner: RecordingEngine, rng: random.Random
) -> None:
    """Nothing waits in an engine that is closed, or belongs to another event loop."""

    def refuse() -> None:
        raise StoreError("closed")

    async with anyio.create_task_group() as tasks:
        engine = GroupCommitEngine(inner, tasks=tasks, rng=rng, require_open=refuse)
        with pytest.raises(StoreError, match="closed"):
            await engine.put(insert("a"))
    assert inner.calls == []
    assert await MemoryEngine.get(inner, REQUESTS, "a") is None
