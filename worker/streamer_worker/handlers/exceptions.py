"""What a handler raises to say what shall become of its request."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Any, Final

from streamer_worker.sanitize import escaped

REJECTED: Final = "REJECTED"
_CODE_CHARS: Final = 200
_LONGEST: Final = timedelta(days=365)
_DEFAULT_WAIT: Final = timedelta(minutes=1)


class _OutcomeException(Exception):
    def __reduce__(self) -> tuple[Any, ...]:
        # Not by calling the class: `after` is no positional argument, and a subclass may take
        # other arguments than its base.
        return _rebuilt, (type(self), self.args, dict(vars(self)))


class Reject(_OutcomeException):
    """The request can never succeed: it fails at once, however many retries it has left.

    `code` is stored as the request's ErrorCode. An enum is stored as its value, a whole number
    as its digits; any other value that is not text, and empty text, is stored as `REJECTED`.
    """

    code: str | int | Enum = REJECTED

    def __init__(self, message: str, *, code: str | int | Enum = REJECTED) -> None:
        super().__init__(message)
        self.code = code


class RetryLater(_OutcomeException):
    """Run the request again after that time (seconds, or a timedelta; at most a year).

    Without `counts` it is snoozed: no attempt is used. With it, it is a failed attempt with a
    delay of its own, and past MaxRetries the request fails.
    """

    # For subclasses whose constructor does not call this one.
    reason = ""
    after = _DEFAULT_WAIT
    counts = False

    def __init__(self, reason: str = "", *, after: float | timedelta, counts: bool = False) -> None:
        super().__init__(reason or "run again later")
        after = after if isinstance(after, timedelta) else timedelta(seconds=after)
        if not timedelta() <= after <= _LONGEST:
            raise ValueError("RetryLater takes an `after` from 0 to a year")
        self.reason = reason
        self.after = after
        self.counts = counts


def code_of(rejection: Reject) -> str:
    """Return the code of a Reject as one line of text that can be stored, never empty and of
    200 characters at most.
    """
    code: object = rejection.code
    if isinstance(code, Enum):
        code = code.value
    if isinstance(code, int) and not isinstance(code, bool) and abs(code) < 10**18:
        code = str(code)
    if not isinstance(code, str):
        return REJECTED
    line = escaped(code[:_CODE_CHARS]).replace("\n", "\\n").replace("\t", "\\t")
    return line[:_CODE_CHARS] or REJECTED


def wait_of(later: RetryLater) -> timedelta:
    """Return the delay of a RetryLater, also where a subclass has set `after` by itself: from 0
    to a year, a minute where it is no time at all.
    """
    after: object = later.after
    if isinstance(after, int | float):
        try:
            after = timedelta(seconds=after)
        except (OverflowError, ValueError):
            return _DEFAULT_WAIT
    if not isinstance(after, timedelta):
        return _DEFAULT_WAIT
    return min(max(after, timedelta()), _LONGEST)


def _rebuilt(
    kind: type[_OutcomeException], args: tuple[Any, ...], state: dict[str, Any]
) -> _OutcomeException:
    error = kind.__new__(kind, *args)
    vars(error).update(state)
    return error
