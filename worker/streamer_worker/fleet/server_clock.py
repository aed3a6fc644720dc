"""The worker's clock, corrected by the times that DynamoDB's answers bear."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from statistics import median
from typing import Final

from streamer_store import CallEnded, Clock
from streamer_store.rates import MICROSECONDS
from streamer_worker.events import ClockSkewed, Event, Events

_SAMPLES: Final = 61
_MIN_SAMPLES: Final = 5
_SAMPLE_EVERY: Final = 0.2
_SLOWEST: Final = 1.0
"""Seconds. A slower answer tells too little about when it was made."""
_LATEST: Final = 5
_HALF_SECOND: Final = 0.5
_SKEWED: Final = 2.0
_CHECK_EVERY: Final = 10.0
ClockSkew = Callable[[], float]
"""Returns the host's clock minus DynamoDB's, in seconds, as the last answers showed it."""


class ServerClock:
    """Listens to CallEnded, and says how far the host's clock is off DynamoDB's.

    The Date of an answer has whole seconds, so an answer says where DynamoDB's clock is within
    half a second, and the median of 61 answers too. What is nearer than that is not corrected:
    clocks of hosts that are synchronised stay as they are. A clock that is more than 2 s off is
    corrected from the first answer on, and soon after it was set: otherwise a worker that starts
    takes the permits of another time. `__call__` may be called from any thread.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offsets: deque[float] = deque(maxlen=_SAMPLES)
        self._sampled_at = -math.inf
        self.offset = 0.0
        """By how many seconds DynamoDB's clock is ahead of the host's, as far as answers tell."""
        self._is_skewed = False

    def __call__(self, event: Event) -> None:
        """Note the Date of an answer."""
        if type(event) is not CallEnded or event.date is None or event.seconds > _SLOWEST:
            return
        steady = self._clock.steady()
        if steady - self._sampled_at >= _SAMPLE_EVERY:
            self._sampled_at = steady
            middle = self._clock.now().timestamp() - event.seconds / 2
            self._offsets.append(event.date + _HALF_SECOND - middle)
            self._forget_before_jump()
            offset = median(list(self._offsets))
            is_known = len(self._offsets) >= _MIN_SAMPLES or abs(offset) > _SKEWED
            self.offset = offset if is_known else 0.0

    def _forget_before_jump(self) -> None:
        """Keep only the latest answers if they tell another time than all: the clock was set."""
        latest = list(self._offsets)[-_LATEST:]
        if abs(median(latest) - median(list(self._offsets))) > _SKEWED:
            self._offsets.clear()
            self._offsets.extend(latest)

    def skew(self) -> float:
        """Return by how many seconds the host's clock is ahead of DynamoDB's, as of late.

        From the first answer on, and soon after the clock was set. Without an answer: 0.
        """
        latest = list(self._offsets)[-_LATEST:]
        return -median(latest) if latest else 0.0

    @property
    def correction(self) -> float:
        """The seconds to add to the host's clock: the offset beyond what whole seconds can tell."""
        offset = self.offset
        return max(0.0, offset - _HALF_SECOND) + min(0.0, offset + _HALF_SECOND)

    def microseconds(self) -> int:
        """Return the corrected time, in microseconds since 1970."""
        return round((self._clock.now().timestamp() + self.correction) * MICROSECONDS)

    async def check(self, events: Events) -> None:
        """Emit ClockSkewed if the host's clock is more than 2 s off, and was not before."""
        offset = self.offset
        was_skewed, self._is_skewed = self._is_skewed, abs(offset) > _SKEWED
        if self._is_skewed and not was_skewed:
            events.emit(ClockSkewed(seconds=-offset))

    def pause(self, _: None) -> float:
        """Return the seconds between two checks."""
        return _CHECK_EVERY
