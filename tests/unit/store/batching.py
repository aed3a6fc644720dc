"""A batch engine that records its calls, and writes to send through it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest
from trio.testing import MockClock

from streamer_store.conditions import Absent, OneOf
from streamer_store.engine import ConditionFailed, Delete, Put, Refusal, Update, Write
from streamer_store.group_commit import GroupCommitEngine
from streamer_store.memory import MemoryEngine
from streamer_store.schema import REQUESTS, Table
from streamer_store.values import Item

PATIENCE = 20.0
# A clock that jumps to the next timer as soon as all tasks wait.
in_virtual_time = pytest.mark.parametrize(
    "anyio_backend", [("trio", {"clock": MockClock(autojump_threshold=0)})], ids=["trio"]
)


class RecordingEngine(MemoryEngine):
    """Records its calls. `answer` answers a batch: None carries the write out.

    `gate`: calls wait until it is set.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[list[str]] = []
        self.writes: list[list[Write]] = []
        self.reads: list[list[str]] = []
        self.answer: Callable[[Write], Refusal | None] = lambda _: None
        self.error: Exception | None = None
        self.read_error: Exception | None = None
        self.gate = anyio.Event()
        self.gate.set()
        self.reached = anyio.Event()

    async def write_many(self, writes: Sequence[Write]) -> list[Item | Refusal]:
        await self._record(writes)
        if self.error is not None:
            raise self.error
        return [self.answer(write) or await self._carry_out(write) for write in writes]

    async def put(self, put: Put) -> None:
        await self._record([put])
        await super().put(put)

    async def update(self, update: Update) -> Item:
        await self._record([update])
        return await super().update(update)

    async def delete(self, delete: Delete) -> None:
        await self._record([delete])
        await super().delete(delete)

    async def get_many(
        self, table: Table, keys: Sequence[str], *, attributes: tuple[str, ...] = ()
    ) -> list[Item]:
        self.reads.append(list(keys))
        if self.read_error is not None:
            raise self.read_error
        return await super().get_many(table, keys, attributes=attributes)

    async def _record(self, writes: Sequence[Write]) -> None:
        self.calls.append([write.key for write in writes])
        self.writes.append(list(writes))
        self.reached.set()
        await self.gate.wait()

    async def _carry_out(self, write: Write) -> Item | Refusal:
        try:
            match write:
                case Update():
                    return await super().update(write)
                case Put():
                    await super().put(write)
                case Delete():
                    await super().delete(write)
        except ConditionFailed:
            return Refusal.CONDITION_FAILED
        return {}


def insert(key: str, **attributes: str) -> Put:
    item = {"RequestID": {"S": key}, "Version": {"S": "v0"}}
    item |= {name: {"S": text} for name, text in attributes.items()}
    return Put(table=REQUESTS, item=item, conditions=(Absent("RequestID"),))


def change(key: str, version: str = "v1", *, seen: str = "v0", text: str = "") -> Update:
    return Update(
        table=REQUESTS,
        key=key,
        sets={"Version": {"S": version}, "Text": {"S": text}},
        conditions=(OneOf("Version", ({"S": seen},)),),
    )


async def store(inner: RecordingEngine, *keys: str) -> None:
    for key in keys:
        await MemoryEngine.put(inner, insert(key))


async def outcomes(engine: GroupCommitEngine, writes: Sequence[Write]) -> list[object]:
    """Make all writes in one round of the event loop, and return what each caller gets."""

    found: list[object] = [None] * len(writes)

    async def write(place: int, one: Write) -> None:
        try:
            match one:
                case Update():
                    found[place] = await engine.update(one)
                case Put():
                    await engine.put(one)
                case Delete():
                    await engine.delete(one)
        except Exception as error:  # noqa: BLE001  what the caller gets
            found[place] = error

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            for place, one in enumerate(writes):
                tasks.start_soon(write, place, one)
    return found


@asynccontextmanager
async def held(inner: RecordingEngine) -> AsyncIterator[None]:
    """Hold all calls until the block ends."""
    inner.gate = anyio.Event()
    inner.reached = anyio.Event()
    try:
        yield
    finally:
        inner.gate.set()


async def reach(inner: RecordingEngine) -> None:
    with anyio.fail_after(PATIENCE):
        await inner.reached.wait()
    inner.reached = anyio.Event()
