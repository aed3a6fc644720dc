"""Group commit: an engine that sends the writes that wait at the same moment in one call.

A call costs about ten times the CPU of a write in it, so that 25 writes in a call need a fifth of
the CPU of 25 calls (docs/performance.md). No write waits for others to come: the writes of a few
rounds of the event loop leave together, and a write that is alone leaves as a call of its own. Only
while `_CALLS` calls are under way does a write wait for the end of one of them.

A batch says less about a failure than a call: which item a condition failed on is read afterwards,
and a write that was refused for another reason is sent again on its own.

Invariants (docs/invariants.md): VERSION-2. The client sends a batch whose answer was lost again. So
only writes that recognise their own first copy may be in it.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio
import anyio.lowlevel

from streamer_store.backoff import full_jitter
from streamer_store.engine import (
    Absent,
    BatchEngine,
    ConditionFailed,
    Put,
    Refusal,
    Update,
)
from streamer_store.errors import AccessDenied, StoreError, StoreUnavailable
from streamer_store.schema import Table
from streamer_store.values import Item, item_size, value_size

if TYPE_CHECKING:
    import random

MAX_WRITES: Final = 25
"""DynamoDB API Reference, BatchExecuteStatement."""
_MAX_BYTES: Final = 1024 * 1024
"""Of the values that a call sends, and of the items that it returns."""
_ROUNDS: Final = 3
"""Rounds of the event loop whose writes leave together. An outcome leads to a claim in two."""
_CALLS: Final = 2
_LATE: Final = 0.25
"""Seconds after which a call that is under way no longer makes other writes wait."""
_DENIED_FOR: Final = 300.0
"""Seconds without batches after DynamoDB denied one."""
_FIRST_RETURNED_BYTES: Final = 10 * 1024
_THROTTLED_PAUSE: Final = 0.1
_OWN_MARKS: Final = frozenset({"Version", "WriteSeq"})

_Write = Put | Update


def can_share_call(write: _Write) -> bool:
    """Return whether a write has the same effect in a batch as on its own.

    1. A batch never creates an item by an update, and knows neither `adds`, `deletes` nor
       `if_not_exists`. It creates an item only where there was none.
    2. The client may send the batch twice, so the write must recognise its first copy.
    """
    if isinstance(write, Put):
        return write.conditions == (Absent(write.table.hash_key),)
    return (
        not (write.adds or write.deletes or write.if_not_exists)
        and not _OWN_MARKS.isdisjoint(write.sets)
        and any(not isinstance(condition, Absent) for condition in write.conditions)
    )


class Starter(Protocol):
    """Starts tasks that nobody waits for, such as an anyio task group."""

    def start_soon(self, work: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> object:
        """Start `work(*arguments)` in the next round of the event loop."""
        ...


@dataclass(slots=True, eq=False)
class _Waiter:
    """A write whose caller waits for the answer."""

    write: _Write
    sent_bytes: int
    answered: anyio.Event = field(default_factory=anyio.Event)
    item: Item = field(default_factory=dict)
    error: Exception | None = None
    is_cancelled: bool = False

    @property
    def key(self) -> tuple[Table, str]:
        return self.write.table, self.write.key

    def succeed(self, item: Item) -> None:
        self.item = item
        self.answered.set()

    def fail(self, error: Exception) -> None:
        self.error = error
        self.answered.set()


class GroupCommitEngine:
    """Implements Engine over a BatchEngine. Runs in one event loop.

    A caller that is cancelled before its write was sent takes the write back. Later, the write may
    take effect.
    """

    def __init__(
        self,
        engine: BatchEngine,
        *,
        tasks: Starter,
        rng: random.Random,
        require_open: Callable[[], object] = int,
    ) -> None:
        """Build the engine.

        - `tasks`: starts the calls. Before they are cancelled, call `close`.
        - `rng`: draws the pauses before a write that was throttled is sent again.
        - `require_open`: called before each write. Raises if `engine` cannot be used here.
        """
        self._engine = engine
        self._tasks = tasks
        self._rng = rng
        self._require_open = require_open
        self._waiting: deque[_Waiter] = deque()
        self._unanswered: set[_Waiter] = set()
        self._calls: dict[int, float] = {}  # the number of each call under way, and its start
        self._last_call = 0
        self._is_sending = False
        self._is_watching = False
        self._denied_until = -math.inf
        self._returned_bytes = _FIRST_RETURNED_BYTES
        self.table_name = engine.table_name
        self.get = engine.get
        self.get_many = engine.get_many
        self.delete = engine.delete
        self.delete_many = engine.delete_many
        self.query = engine.query
        self.scan = engine.scan
        self.has_index = engine.has_index
        self.create_tables = engine.create_tables
        self.check_tables = engine.check_tables

    async def put(self, put: Put) -> None:
        if can_share_call(put):
            await self._write(put)
        else:
            await self._engine.put(put)

    async def update(self, update: Update) -> Item:
        if can_share_call(update):
            return await self._write(update)
        return await self._engine.update(update)

    def close(self) -> None:
        """Raise StoreUnavailable in all callers. Their writes may have taken effect."""
        self._waiting.clear()
        _fail_each(self._unanswered, StoreUnavailable("the stores were closed"))

    async def _write(self, write: _Write) -> Item:
        self._require_open()
        if anyio.current_time() < self._denied_until:
            return await self._write_alone(write)
        waiter = _Waiter(write, _sent_bytes(write))
        self._waiting.append(waiter)
        self._unanswered.add(waiter)
        self._send_soon()
        try:
            await waiter.answered.wait()
        finally:
            waiter.is_cancelled = not waiter.answered.is_set()
            self._unanswered.discard(waiter)
        if waiter.error is not None:
            raise waiter.error
        return waiter.item

    async def _write_alone(self, write: _Write) -> Item:
        if isinstance(write, Update):
            return await self._engine.update(write)
        await self._engine.put(write)
        return {}

    def _send_soon(self) -> None:
        if not self._is_sending:
            self._is_sending = True
            self._tasks.start_soon(self._send_batch)

    async def _send_batch(self) -> None:
        """Send the next writes that wait, if the calls under way allow it."""
        for _ in range(_ROUNDS):
            await anyio.lowlevel.checkpoint()
        self._is_sending = False
        now = anyio.current_time()
        recent = sum(now - started < _LATE for started in self._calls.values())
        if recent >= _CALLS:
            self._watch_calls()
            return
        waiters = self._take_batch()
        if not waiters:
            return
        self._last_call += 1
        number = self._last_call
        self._calls[number] = now
        if self._waiting:
            self._send_soon()
        try:
            if len(waiters) == 1:
                await self._send_alone(waiters[0])
            else:
                await self._send_together(waiters)
        finally:
            del self._calls[number]
            if self._waiting:
                self._send_soon()

    def _watch_calls(self) -> None:
        if not self._is_watching:
            self._is_watching = True
            self._tasks.start_soon(self._send_when_calls_are_late)

    async def _send_when_calls_are_late(self) -> None:
        """Let writes wait for no call that takes longer than `_LATE`."""
        try:
            while self._waiting:
                await anyio.sleep(_LATE / 5)
                self._send_soon()
        finally:
            self._is_watching = False

    def _take_batch(self) -> list[_Waiter]:
        """Take the writes of the next call, in order. Those that do not fit keep their places."""
        taken: dict[tuple[Table, str], _Waiter] = {}
        kept: list[_Waiter] = []
        sent = returned = 0
        while self._waiting and len(taken) < MAX_WRITES:
            waiter = self._waiting.popleft()
            if waiter.is_cancelled:
                continue
            if waiter.key in taken:
                kept.append(waiter)
                continue
            sent += waiter.sent_bytes
            returned += self._returned_bytes if _is_returning(waiter.write) else 0
            if taken and max(sent, returned) > _MAX_BYTES:
                kept.append(waiter)
                break
            taken[waiter.key] = waiter
        self._waiting.extendleft(reversed(kept))
        return list(taken.values())

    async def _send_together(self, waiters: Sequence[_Waiter]) -> None:
        try:
            outcomes = await self._engine.write_many([waiter.write for waiter in waiters])
        except StoreUnavailable as error:  # each write may have taken effect
            _fail_each(waiters, error)
        except Exception as error:  # noqa: BLE001  each write meets its own error when it is alone
            if isinstance(error, AccessDenied):
                self._stop_batches()
            self._start_each(waiters)
        else:
            self._deliver(waiters, outcomes)

    def _deliver(self, waiters: Sequence[_Waiter], outcomes: Iterable[Item | Refusal]) -> None:
        failed: dict[Table, list[_Waiter]] = {}
        item: Item = {}
        for waiter, result in zip(waiters, outcomes, strict=True):
            match result:
                case Refusal.CONDITION_FAILED:
                    failed.setdefault(waiter.write.table, []).append(waiter)
                case Refusal.THROTTLED:
                    pause = full_jitter(
                        self._rng, 1, first=_THROTTLED_PAUSE, longest=_THROTTLED_PAUSE
                    )
                    self._tasks.start_soon(self._send_alone, waiter, pause)
                case Refusal.DENIED:
                    self._stop_batches()
                    self._tasks.start_soon(self._send_alone, waiter)
                case Refusal.INVALID:
                    self._tasks.start_soon(self._send_alone, waiter)
                case _:
                    item = result or item
                    waiter.succeed(result)
        if item:
            self._returned_bytes = max(item_size(item), self._returned_bytes * 9 // 10)
        for table, of_table in failed.items():
            self._tasks.start_soon(self._fail_by_condition, table, of_table)

    async def _fail_by_condition(self, table: Table, waiters: Sequence[_Waiter]) -> None:
        """Read the items on which conditions failed, and raise ConditionFailed with each."""
        try:
            items = await self.get_many(table, [waiter.write.key for waiter in waiters])
        except StoreUnavailable as error:
            _fail_each(waiters, error)
            return
        except Exception:  # noqa: BLE001  a write on its own says which item it met
            self._start_each(waiters)
            return
        by_key = {item[table.hash_key]["S"]: item for item in items}
        for waiter in waiters:
            waiter.fail(ConditionFailed(by_key.get(waiter.write.key)))

    async def _send_alone(self, waiter: _Waiter, pause: float = 0.0) -> None:
        if pause:
            await anyio.sleep(pause)
        if waiter.is_cancelled:
            return
        try:
            waiter.succeed(await self._write_alone(waiter.write))
        except Exception as error:  # noqa: BLE001  the caller gets it
            waiter.fail(error)

    def _start_each(self, waiters: Iterable[_Waiter]) -> None:
        for waiter in waiters:
            self._tasks.start_soon(self._send_alone, waiter)

    def _stop_batches(self) -> None:
        self._denied_until = anyio.current_time() + _DENIED_FOR


def _is_returning(write: _Write) -> bool:
    return isinstance(write, Update) and write.returning


def _sent_bytes(write: _Write) -> int:
    """Return the size of the values that a write sends, in bytes. Numbers count as none."""
    values = write.item if isinstance(write, Put) else write.sets
    return sum(value_size(value) for value in values.values() if "N" not in value)


def _fail_each(waiters: Iterable[_Waiter], error: StoreError) -> None:
    """Raise a copy of the error in each caller. Python adds to the traceback of each raise."""
    for waiter in waiters:
        copied = copy.copy(error)
        copied.key = waiter.write.key
        waiter.fail(copied)
