"""Values by key, each read once for all calls of the same moment, and cached for a while."""

from __future__ import annotations

import copy
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import anyio
from cachetools import TLRUCache
from typing_extensions import override

from streamer_store.cache import Cache, CacheUsed
from streamer_store.clock import Clock

_Value = TypeVar("_Value")


@dataclass(slots=True)
class _Entry(Generic[_Value]):
    """What was read. `began`: when the read began."""

    value: _Value
    began: float


class _Flight(Generic[_Value]):
    """A read under way, which several calls share."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.ended = anyio.Event()
        self.entry: _Entry[_Value] | None = None
        self.error: Exception | None = None


class _Entries(TLRUCache[str, _Entry[_Value]]):
    """The entries that are young enough. It counts those that gave way to others."""

    evictions = 0

    @override
    def popitem(self) -> tuple[str, _Entry[_Value]]:
        self.evictions += 1
        return super().popitem()


class SharedReads(Generic[_Value]):
    """The cached values, and the reads under way. Runs in one event loop.

    A value is returned if its read began less than `max_age` before the call.
    """

    def __init__(self, cache: Cache, clock: Clock, *, is_present: Callable[[_Value], bool]) -> None:
        """Build an empty cache. `is_present`: whether a value says that something is there."""
        self._max_age = cache.max_age
        self._is_kept = (lambda _: True) if cache.absent else is_present
        self._now = clock.steady
        self._entries: _Entries[_Value] = _Entries(
            cache.max_items, lambda _, entry, __: entry.began + cache.max_age, timer=clock.steady
        )
        self._flights: dict[str, _Flight[_Value]] = {}
        self._hits = self._misses = 0
        self._oldest = math.inf

    async def get(
        self, keys: Sequence[str], read: Callable[[Sequence[str]], Awaitable[dict[str, _Value]]]
    ) -> dict[str, _Value]:
        """Return the value of each key, from the cache, a read under way, or `read`."""
        found: dict[str, _Value] = {}
        missing: list[str] = []
        joined: list[tuple[str, _Flight[_Value]]] = []
        for key in keys:
            entry = self._entries.get(key)
            flight = self._flights.get(key)
            if entry is not None:
                found[key] = self._hit(entry)
            elif flight is not None and self._now() - flight.began < self._max_age:
                joined.append((key, flight))
            else:
                missing.append(key)
        if missing:
            found |= await self._read(missing, read)
        for key, flight in joined:
            await flight.ended.wait()
            if flight.error is not None:
                raise copy.copy(flight.error)
            if flight.entry is None:  # its caller was cancelled
                found |= await self.get([key], read)
            else:
                found[key] = self._hit(flight.entry)
        return {key: found[key] for key in keys}

    def forget(self, keys: Iterable[str]) -> None:
        """Forget entries. A read under way may have read what was before: nobody joins it now."""
        for key in keys:
            self._entries.pop(key, None)
            self._flights.pop(key, None)

    def forget_all(self) -> None:
        """Forget all entries, as `forget` does."""
        self._entries.clear()
        self._flights.clear()

    def forget_unless(self, key: str, is_wanted: Callable[[_Value], bool]) -> None:
        """Forget the entry of a key unless it is wanted. Reads under way may be joined."""
        entry = self._entries.get(key)
        if entry is not None and not is_wanted(entry.value):
            self._entries.pop(key, None)

    def take_use(self, table: str) -> CacheUsed:
        """Return what happened since the last call."""
        age = 0.0 if self._oldest is math.inf else self._now() - self._oldest
        use = CacheUsed(
            table=table,
            hits=self._hits,
            misses=self._misses,
            evictions=self._entries.evictions,
            age=age,
        )
        self._hits = self._misses = self._entries.evictions = 0
        self._oldest = math.inf
        return use

    async def _read(
        self, keys: Sequence[str], read: Callable[[Sequence[str]], Awaitable[dict[str, _Value]]]
    ) -> dict[str, _Value]:
        self._misses += len(keys)
        began = self._now()
        flights = {key: _Flight[_Value](began) for key in keys}
        self._flights |= flights
        try:
            values = await read(keys)
            for key, flight in flights.items():
                flight.entry = _Entry(values[key], began)
                if self._flights.get(key) is flight and self._is_kept(values[key]):
                    self._entries[key] = flight.entry
        except Exception as error:
            for flight in flights.values():
                flight.error = error
            raise
        finally:
            for key, flight in flights.items():
                flight.ended.set()
                if self._flights.get(key) is flight:
                    del self._flights[key]
        return values

    def _hit(self, entry: _Entry[_Value]) -> _Value:
        self._hits += 1
        self._oldest = min(self._oldest, entry.began)
        return entry.value
