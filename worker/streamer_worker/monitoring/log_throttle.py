"""Suppresses log lines that repeat: an invalid item or refused writes must not fill the log."""

from __future__ import annotations

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
    event_name,
)

# Seconds between two lines of a kind, and between two lines about an item.
_EVERY: Final = 60.0
_ITEM_EVERY: Final = 24 * 3600.0
_ITEMS: Final = 10_000
# Emitted for each request or connection, so one cause has hundreds a minute.
_THROTTLED: Final = (
    SettleDelayed,
    CheckpointDelayed,
    ProgressDropped,
    EndpointRefused,
    ConnectionSuspended,
)
_FILTERED: Final = frozenset({*_THROTTLED, ClaimTried, ItemUndecodable, PushTried, RequestFinished})


class LogThrottle:
    """Passes events to `log`, a listener, without those that repeat.

    1. ItemUndecodable: once a day for each item and reason.
    2. Events that repeat for each request or connection: the first, then one a minute.
       LogLinesSuppressed with the number of the others precedes the next one. An outage of the
       table does not reach this listener: `monitoring.outages`.
    3. When no outcome is delayed any more, SettlesResumed is added.

    May be called from any thread. Metrics are listeners of their own, and count every event.
    """

    def __init__(self, log: Listener, *, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        # Held for every access to the fields below, by whichever thread emits the event.
        self._lock = Lock()
        self._items: TTLCache[tuple[str, str, str], None] = TTLCache(
            _ITEMS, _ITEM_EVERY, timer=clock.steady
        )
        self._next: dict[type[Event], float] = {}
        self._suppressed: Counter[type[Event]] = Counter()
        self._settles = _Settles()

    def __call__(self, event: Event) -> None:
        if type(event) not in _FILTERED or self._is_routine(event):
            self._log(event)
            return
        with self._lock:
            events = self._filter(event)
        for passed in events:
            self._log(passed)

    def _is_routine(self, event: Event) -> bool:
        """Return whether the event is one of those of each request, in which nothing failed.

        Takes no lock: the task that emits RequestFinished has emitted SettleDelayed before, so
        without a delayed outcome this is not one of them.
        """
        if isinstance(event, RequestFinished):
            return not self._settles.is_any_delayed
        if isinstance(event, ClaimTried):
            return event.outcome != "error"
        return isinstance(event, PushTried) and event.outcome != "unresolved"

    def _filter(self, event: Event) -> list[Event]:
        match event:
            case ItemUndecodable(table=table, key=key, reason=reason):
                known = (table, key, reason) in self._items
                if not known:
                    self._items[table, key, reason] = None
                return [] if known else [event]
            case RequestFinished(request_id=request_id, outcome=outcome):
                resumed = self._settles.finish(request_id, self._clock.steady())
                # `unsettled` says that the outcome was given up, so nothing has resumed.
                return [event] if resumed is None or outcome == "unsettled" else [resumed, event]
            case SettleDelayed(request_id=request_id):
                events = self._throttle(event)
                self._settles.delay(request_id, self._clock.steady(), logged=bool(events))
                return events
            case PushTried(outcome="unresolved") | ClaimTried(outcome="error"):
                return self._throttle(event)
        return self._throttle(event) if isinstance(event, _THROTTLED) else [event]

    def _throttle(self, event: Event) -> list[Event]:
        kind, now = type(event), self._clock.steady()
        if now < self._next.get(kind, now):
            self._suppressed[kind] += 1
            return []
        self._next[kind] = now + _EVERY
        count = self._suppressed.pop(kind, 0)
        suppressed = [LogLinesSuppressed(kind=event_name(kind), count=count)] if count else []
        return [*suppressed, event]


class _Settles:
    """The outcomes that are delayed."""

    def __init__(self) -> None:
        self._waiting: set[str] = set()
        self._began = 0.0
        self._count = 0
        self._logged = False

    @property
    def is_any_delayed(self) -> bool:
        return bool(self._waiting)

    def delay(self, request_id: str, now: float, *, logged: bool) -> None:
        """Add a request. `logged`: this delay is in the log."""
        if not self._waiting:
            self._began, self._count = now, 0
        if request_id not in self._waiting:
            self._waiting.add(request_id)
            self._count += 1
        self._logged = self._logged or logged

    def finish(self, request_id: str, now: float) -> SettlesResumed | None:
        """Remove a request. Return SettlesResumed if it was the last one and a delay was logged."""
        if request_id not in self._waiting:
            return None
        self._waiting.remove(request_id)
        if self._waiting or not self._logged:
            return None
        self._logged = False
        return SettlesResumed(count=self._count, seconds=now - self._began)
