"""Group commit: an engine that sends the writes that wait at the same moment in one call.

A call costs about ten times the CPU of a write in it, so that 25 writes in a call need a fifth of
the CPU of 25 calls (docs/performance.md). No write waits for others to come: the writes of a few
rounds of the event loop leave together, and a write that is alone leaves as a call of its own. Only
while a call is under way do writes wait for its end, 0.1 s at most, unless they fill another call.

A batch says less about a failure than a call: which item a condition failed on is read afterwards,
and a write that was refused for another reason is sent again on its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio
import anyio.lowlevel

from streamer_store.engine import (
    BatchEngine,
    ConditionFailed,
    Delete,
    Put,
    Refusal,
    Update,
    Write,
)
from streamer_store.errors import AccessDenied, StoreError, StoreUnavailable
from streamer_store.schema import Table
from streamer_store.values import Item
from streamer_store.write_queue import (
    MAX_WRITES,
    Event,
    Waiter,
    WriteQueue,
    can_share_call,
)

if TYPE_CHECKING:
    import random

_ROUNDS: Final = 3
"""Rounds of the event loop whose writes leave together. An outcome leads to a claim in two."""
_FULL_CALLS: Final = 8
"""How many calls of 25 writes are under way at most. Fewer writes wait for the only call."""
_LATE: Final = 0.1
"""Seconds after which a call that is under way no longer makes other writes wait."""
_DENIED_FOR: Final = 300.0
"""Seconds without batches after DynamoDB denied one."""
_LONGEST_THROTTLED_PAUSE: Final = 0.1
"""Seconds before the single write, which the client itself repeats with a growing backoff."""


class Starter(Protocol):
    """Starts tasks that nobody waits for, such as an anyio task group."""

    def start_soon(self, work: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> object:
        """Start `work(*arguments)` in the next round of the event loop."""
        ...


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
        new_event: Callable[[], Event] = anyio.Event,
    ) -> None:
        """Build the engine.

        - `tasks`: starts the calls. Before they are cancelled, call `close`.
        - `rng`: draws the pauses before a write that was throttled is sent again.
        - `require_open`: called before each write. Raises if `engine` cannot be used here.
        - `new_event`: makes an event for one task.
        """
        self._engine = engine
        self._tasks = tasks
        self._rng = rng
        self._require_open = require_open
        self._waiting = WriteQueue(new_event)
        self._unanswered: set[Waiter] = set()
        self._calls: dict[int, float] = {}  # the number of each call under way, and its start
        self._last_call = 0
        self._is_sending = False
        self._is_watching = False
        self._denied_until: float | None = None
        self.table_name = engine.table_name
        self.get = engine.get
        self.get_many = engine.get_many
        self.put_many = engine.put_many
        self.delete_many = engine.delete_many
        self.transact = engine.transact
        self.query = engine.query
        self.scan = engine.scan
        self.has_index = engine.has_index
        self.create_tables = engine.create_tables
        self.check_tables = engine.check_tables
        self.account = engine.account

    async def put(self, put: Put) -> None:
        if can_share_call(put):
            await self._write(put)
        else:
            await self._engine.put(put)

    async def update(self, update: Update) -> Item:
        if can_share_call(update):
            return await self._write(update)
        return await self._engine.update(update)

    async def delete(self, delete: Delete) -> None:
        if can_share_call(delete):
            await self._write(delete)
        else:
            await self._engine.delete(delete)

    def close(self) -> None:
        """Raise StoreUnavailable in all callers. Their writes may have taken effect."""
        self._waiting.clear()
        _fail_each(self._unanswered, StoreUnavailable("the stores were closed"))

    async def _write(self, write: Write) -> Item:
        self._require_open()
        if self._denied_until is not None and anyio.current_time() < self._denied_until:
            return await self._write_alone(write)
        waiter = self._waiting.add(write)
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

    async def _write_alone(self, write: Write) -> Item:
        match write:
            case Update():
                return await self._engine.update(write)
            case Put():
                await self._engine.put(write)
            case Delete():
                await self._engine.delete(write)
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
        if recent >= (_FULL_CALLS if len(self._waiting) >= MAX_WRITES else 1):
            self._watch_calls()
            return
        waiters = self._waiting.take_batch()
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

    async def _send_together(self, waiters: Sequence[Waiter]) -> None:
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

    def _deliver(self, waiters: Sequence[Waiter], outcomes: Iterable[Item | Refusal]) -> None:
        failed: dict[Table, list[Waiter]] = {}
        item: Item = {}
        for waiter, result in zip(waiters, outcomes, strict=True):
            match result:
                case Refusal.CONDITION_FAILED:
                    failed.setdefault(waiter.write.table, []).append(waiter)
                case Refusal.THROTTLED:
                    pause = self._rng.uniform(0, _LONGEST_THROTTLED_PAUSE)
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
            self._waiting.note_returned(item)
        for table, of_table in failed.items():
            self._tasks.start_soon(self._fail_by_condition, table, of_table)

    async def _fail_by_condition(self, table: Table, waiters: Sequence[Waiter]) -> None:
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

    async def _send_alone(self, waiter: Waiter, pause: float = 0.0) -> None:
        if pause:
            await anyio.sleep(pause)
        if waiter.is_cancelled:
            return
        try:
            waiter.succeed(await self._write_alone(waiter.write))
        except Exception as error:  # noqa: BLE001  the caller gets it
            waiter.fail(error)

    def _start_each(self, waiters: Iterable[Waiter]) -> None:
        for waiter in waiters:
            self._tasks.start_soon(self._send_alone, waiter)

    def _stop_batches(self) -> None:
        self._denied_until = anyio.current_time() + _DENIED_FOR


def _fail_each(waiters: Iterable[Waiter], error: StoreError) -> None:
    """Raise a copy of the error in each caller. Python adds to the traceback of each raise."""
    for waiter in waiters:
        copied = copy.copy(error)
        copied.key = waiter.write.key
        waiter.fail(copied)
