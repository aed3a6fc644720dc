"""Exceptions by which a handler decides what becomes of its request."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Any, Final, Literal

from streamer_worker.sanitize import escaped

REJECTED: Final = "REJECTED"
_CODE_CHARS: Final = 200
_LONGEST: Final = timedelta(days=365)
Scope = Literal["request", "action"]


class _OutcomeException(Exception):
    """An exception that can be pickled with its attributes. So can its subclasses."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The class is not called: `after` is no positional argument, and the constructor of a
        # subclass may have other parameters.
        return _rebuilt, (type(self), self.args, dict(vars(self)))


class Reject(_OutcomeException):
    """Fail the request at once, without the retries that are left: it can never succeed.

    `message` is stored as the request's error, `code` as its ErrorCode, at most 200 characters.
    An enum is stored as its value, a whole number as its digits. Any other value that is not
    text, and empty text, is stored as `REJECTED`.
    """

    code: str | int | Enum = REJECTED

    def __init__(self, message: str, *, code: str | int | Enum = REJECTED) -> None:
        super().__init__(message)
        self.code = code


class RetryLater(_OutcomeException):
    """Run the request again later.

    * `reason`: stored as the request's error, if it is not empty.
    * `after`: how long to wait, in seconds or as a timedelta, from 0 to a year.
    * `counts`: False: the request is snoozed, and the attempt does not count. True: the attempt
      has failed, with this delay in place of the RetryPolicy's; without a retry left the request
      fails.
    * `scope`: "action": no request of the action starts on any worker until then, at most for the
      setting `pause.max_hold` (1 h). Workers learn of it with their next heartbeat. Use it for an
      API that answers 429 with a Retry-After.

    Raises ValueError for an `after` out of range and for another `scope`.
    """

    # Defaults for subclasses whose constructor does not call this one.
    reason = ""
    after = timedelta(minutes=1)
    counts = False
    scope: Scope = "request"

    def __init__(
        self,
        reason: str = "",
        *,
        after: float | timedelta,
        counts: bool = False,
        scope: Scope = "request",
    ) -> None:
        super().__init__(reason or "run again later")
        after = after if isinstance(after, timedelta) else timedelta(seconds=after)
        if not timedelta() <= after <= _LONGEST:
            raise ValueError(f"`after` of RetryLater must be from 0 to a year, not {after}")
        if scope not in {"request", "action"}:
            raise ValueError(f"`scope` of RetryLater must be 'request' or 'action', not {scope!r}")
        self.reason = reason
        self.after = after
        self.counts = counts
        self.scope = scope


def code_of(rejection: Reject) -> str:
    """Return the code of a Reject as it is stored: one line, not empty, at most 200 characters."""
    code: object = rejection.code
    if isinstance(code, Enum):
        code = code.value
    if isinstance(code, int) and not isinstance(code, bool) and abs(code) < 10**18:
        code = str(code)
    if not isinstance(code, str):
        return REJECTED
    return escaped(code[:_CODE_CHARS], keep="")[:_CODE_CHARS] or REJECTED


def wait_of(later: RetryLater) -> timedelta:
    """Return the delay of a RetryLater, limited to 0 to a year. A subclass may have set `after`
    to anything: what is no time gives one minute.
    """
    after: object = later.after
    if isinstance(after, int | float):
        try:
            after = timedelta(seconds=after)
        except (OverflowError, ValueError):
            return RetryLater.after
    if not isinstance(after, timedelta):
        return RetryLater.after
    return min(max(after, timedelta()), _LONGEST)


def _rebuilt(
    kind: type[_OutcomeException], args: tuple[Any, ...], state: dict[str, Any]
) -> _OutcomeException:
    error = kind.__new__(kind, *args)
    vars(error).update(state)
    return error
