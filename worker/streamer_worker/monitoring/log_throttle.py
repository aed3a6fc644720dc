"""Fewer log lines of what repeats: an outage, or a broken item, must not fill the log."""

from __future__ import annotations

import re
from collections import Counter
from threading import Lock
from typing import Final

from cachetools import TTLCache

from streamer_store import Clock
from streamer_worker.events import (
    CheckpointDelayed,
    ClaimTried,
    ConnectionSuspended,
    EndpointRefused,
    Event,
    ItemUndecodable,
    Listener,
    LogLinesSuppressed,
    ProgressDropped,
    PushTried,
    RequestFinished,
    SettleDelayed,
    SettlesResumed,
)

_EVERY: Final = 60.0
_ITEM_AGAIN: Final = 24 * 3600.0
_ITEMS: Final = 10_000
_WORD: Final = re.compile(r"(?<!^)(?=[A-Z])")
# Each request or connection has its own, so an outage gives hundreds a minute.
_THROTTLED: Final = (
    SettleDelayed,
    CheckpointDelayed,
    ProgressDropped,
    EndpointRefused,
    ConnectionSuspended,
)


class LogThrottle:
    """Passes events on to `log`, a listener, but fewer of those that repeat.

    1. An item that cannot be decoded: once a day for each item and reason.
    2. Events of a kind that an outage repeats: the first, then one a minute. LogLinesSuppressed
       precedes the next one that is passed on, and says how many were not.
    3. When no outcome waits for the table any more, SettlesResumed follows.

    It may be called from any thread. Metrics listen for themselves, and count everything.
    """

    def __init__(self, log: Listener, *, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._lock = Lock()
        self._items: TTLCache[tuple[str, str, str], None] = TTLCache(
            _ITEMS, _ITEM_AGAIN, timer=clock.steady
        )
        self._next: dict[type[Event], float] = {}
        self._suppressed: Counter[type[Event]] = Counter()
        self._settles = _Settles()

    def __call__(self, event: Event) -> None:
        with self._lock:
            passed = self._passed(event)
        for each in passed:
            self._log(each)

    def _passed(self, event: Event) -> list[Event]:
        match event:
            case ItemUndecodable(table=table, key=key, reason=reason):
                known = (table, key, reason) in self._items
                if not known:
                    self._items[table, key, reason] = None
                return [] if known else [event]
            case RequestFinished(request_id=request_id, outcome=outcome):
                resumed = self._settles.ended(request_id, self._clock.steady())
                # An outcome that is given up says so itself, and nothing has resumed.
                return [event] if resumed is None or outcome == "unsettled" else [resumed, event]
            case SettleDelayed(request_id=request_id):
                passed = self._throttled(event)
                self._settles.delayed(request_id, self._clock.steady(), logged=bool(passed))
                return passed
            case PushTried(outcome="unresolved") | ClaimTried(outcome="error"):
                return self._throttled(event)
        return self._throttled(event) if isinstance(event, _THROTTLED) else [event]

    def _throttled(self, event: Event) -> list[Event]:
        kind, now = type(event), self._clock.steady()
        if now < self._next.get(kind, now):
            self._suppressed[kind] += 1
            return []
        self._next[kind] = now + _EVERY
        count = self._suppressed.pop(kind, 0)
        suppressed = [LogLinesSuppressed(kind=_name(kind), count=count)] if count else []
        return [*suppressed, event]


def _name(kind: type[Event]) -> str:
    """Return the name under which events of a kind are logged."""
    return _WORD.sub("_", kind.__name__).lower()


class _Settles:
    """The outcomes that wait for the table, from the first until none does."""

    def __init__(self) -> None:
        self._waiting: set[str] = set()
        self._began = 0.0
        self._count = 0
        self._logged = False

    def delayed(self, request_id: str, now: float, *, logged: bool) -> None:
        if not self._waiting:
            self._began, self._count = now, 0
        if request_id not in self._waiting:
            self._waiting.add(request_id)
            self._count += 1
        self._logged = self._logged or logged

    def ended(self, request_id: str, now: float) -> SettlesResumed | None:
        """Return the event that ends what has been logged, when this was the last one."""
        if request_id not in self._waiting:
            return None
        self._waiting.remove(request_id)
        if self._waiting or not self._logged:
            return None
        self._logged = False
        return SettlesResumed(count=self._count, seconds=now - self._began)
