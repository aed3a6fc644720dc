"""What a handler raises to say what shall become of its request."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

_LONGEST = timedelta(days=365)


class Reject(Exception):
    """The request can never succeed: it fails at once, however many retries it has left."""

    code = "REJECTED"

    def __init__(self, message: str, *, code: str = "REJECTED") -> None:
        super().__init__(message)
        if not code:
            raise ValueError("the code of a Reject must not be empty")
        self.code = code


class RetryLater(Exception):
    """Run the request again after that time (seconds, or a timedelta; at most a year).

    Without `counts` it is snoozed: no attempt is used. With it, it is a failed attempt with a
    delay of its own, and past MaxRetries the request fails.
    """

    def __init__(self, reason: str = "", *, after: float | timedelta, counts: bool = False) -> None:
        super().__init__(reason or "run again later")
        after = after if isinstance(after, timedelta) else timedelta(seconds=after)
        if not timedelta() <= after <= _LONGEST:
            raise ValueError("RetryLater takes an `after` from 0 to a year")
        self.reason = reason
        self.after = after
        self.counts = counts

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is copied from its positional arguments alone, and `after` is none.
        return partial(RetryLater, self.reason, after=self.after, counts=self.counts), ()
