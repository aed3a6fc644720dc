"""An engine in memory whose calls can be made to wait or fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio

from streamer_store import Difference, StoreUnavailable
from streamer_store.engine import (
    ConditionFailed,
    Delete,
    Page,
    Put,
    Query,
    Scan,
    TransactionPart,
    Update,
)
from streamer_store.memory import MemoryEngine
from streamer_store.schema import REQUESTS, Index, Table
from streamer_store.values import Item

PATIENCE = 20.0
Result = TypeVar("Result")


@dataclass(kw_only=True)
class Fault:
    """Makes matching calls wait, fail, or both.

    times: number of calls.
    lands: the call takes effect before it waits and fails.
    gate: calls wait until it is set.
    reached: set by the first call.
    """

    operation: str
    when: Callable[[Any], bool]
    error: Exception | None
    times: int
    lands: bool
    gate: anyio.Event | None
    reached: anyio.Event = field(default_factory=anyio.Event)

    async def wait_reached(self) -> None:
        with anyio.fail_after(PATIENCE):
            await self.reached.wait()

    def let_go(self) -> None:
        assert self.gate is not None
        self.gate.set()


def anything(_subject: Any) -> bool:
    return True


def moves_to(status: str) -> Callable[[Any], bool]:
    """Match the update that gives a request this status."""
    return lambda update: update.sets.get("Status") == {"S": status}


def is_request(update: Any) -> bool:
    return update.table is REQUESTS


def is_progress(update: Any) -> bool:
    return "Status" not in update.sets and "WriteSeq" in update.sets


class FaultyEngine:
    """A MemoryEngine that fails or waits on demand."""

    def __init__(self) -> None:
        self.inner = MemoryEngine()
        self.differences: list[Difference] = []
        self.calls: list[str] = []
        self._faults: list[Fault] = []

    def fail(
        self,
        operation: str,
        error: Exception | None = None,
        *,
        when: Callable[[Any], bool] = anything,
        times: int = 1,
        lands: bool = False,
    ) -> Fault:
        """Make matching calls fail. With `lands` they take effect before that."""
        error = error or StoreUnavailable("the table is away")
        return self._add(operation, when, error, times, lands=lands, gate=None)

    def hold(
        self,
        operation: str,
        *,
        when: Callable[[Any], bool] = anything,
        times: int = 1,
        lands: bool = False,
    ) -> Fault:
        """Make matching calls wait until `let_go`. With `lands` they take effect before that."""
        return self._add(operation, when, None, times, lands=lands, gate=anyio.Event())

    def heal(self) -> None:
        self._faults.clear()

    def _add(
        self,
        operation: str,
        when: Callable[[Any], bool],
        error: Exception | None,
        times: int,
        *,
        lands: bool,
        gate: anyio.Event | None,
    ) -> Fault:
        fault = Fault(
            operation=operation, when=when, error=error, times=times, lands=lands, gate=gate
        )
        self._faults.append(fault)
        return fault

    async def _call(
        self, operation: str, subject: Any, call: Callable[[], Awaitable[Result]]
    ) -> Result:
        self.calls.append(operation)
        fault = self._matching(operation, subject)
        if fault is None:
            return await call()
        fault.times -= 1
        fault.reached.set()
        landed: list[Result] = []
        if fault.lands:
            try:
                landed.append(await call())
            except ConditionFailed:
                if fault.error is None:
                    raise
        if fault.gate is not None:
            await fault.gate.wait()
        if fault.error is not None:
            await anyio.lowlevel.checkpoint()
            raise fault.error
        return landed[0] if landed else await call()

    def _matching(self, operation: str, subject: Any) -> Fault | None:
        for fault in self._faults:
            if fault.operation == operation and fault.times and fault.when(subject):
                return fault
        return None

    def table_name(self, table: Table) -> str:
        return self.inner.table_name(table)

    async def get(self, table: Table, key: str) -> Item | None:
        return await self._call("get", key, lambda: self.inner.get(table, key))

    async def get_many(
        self, table: Table, keys: Sequence[str], *, attributes: tuple[str, ...] = ()
    ) -> list[Item]:
        return await self._call(
            "get_many", keys, lambda: self.inner.get_many(table, keys, attributes=attributes)
        )

    async def put(self, put: Put) -> None:
        await self._call("put", put, lambda: self.inner.put(put))

    async def update(self, update: Update) -> Item:
        return await self._call("update", update, lambda: self.inner.update(update))

    async def delete(self, delete: Delete) -> None:
        await self._call("delete", delete, lambda: self.inner.delete(delete))

    async def put_many(self, table: Table, items: Sequence[Item]) -> None:
        await self._call("put_many", items, lambda: self.inner.put_many(table, items))

    async def delete_many(self, table: Table, keys: Sequence[str]) -> None:
        await self._call("delete_many", keys, lambda: self.inner.delete_many(table, keys))

    async def transact(self, parts: Sequence[TransactionPart]) -> None:
        await self._call("transact", parts, lambda: self.inner.transact(parts))

    async def query(self, query: Query) -> Page:
        self.calls.append(f"query {query.value}")
        return await self._call("query", query, lambda: self.inner.query(query))

    async def scan(self, scan: Scan) -> Page:
        return await self._call("scan", scan, lambda: self.inner.scan(scan))

    async def has_index(self, table: Table, index: Index) -> bool:
        return await self._call("has_index", index, lambda: self.inner.has_index(table, index))

    async def create_tables(self) -> None:
        await self._call("create_tables", None, self.inner.create_tables)

    async def check_tables(self) -> list[Difference]:
        differences = await self._call("check_tables", None, self.inner.check_tables)
        return [*differences, *self.differences]

    async def account(self) -> str | None:
        return await self._call("account", None, self.inner.account)
