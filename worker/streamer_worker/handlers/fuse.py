"""`Fuse`: when an action is paused because it fails."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

MAX_FAILURES: Final = 10_000
_MAX_WITHIN: Final = timedelta(days=1)
_MIN_PROBE: Final = timedelta(seconds=1)
_MAX_PROBE: Final = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Fuse:
    """Pauses an action on all workers after so many failures on one of them.

    * `failures`: how many attempts have to fail, 1 to 10,000. Attempts that a Reject, a wrong
      payload or a result that cannot be stored ended are not counted: the request caused them.
    * `within`: the window in which they have to fail, at most a day. Each worker counts its own.
    * `probe_every`: how often one request may run while the action is paused, 1 s to 1 h. If one
      succeeds, the action is no longer paused.

    Raises TypeError for a wrong type, ValueError for a value that is out of range.

    >>> Fuse(failures=20, within=timedelta(minutes=5)).probe_every
    datetime.timedelta(seconds=30)
    """

    failures: int
    within: timedelta = timedelta(minutes=10)
    probe_every: timedelta = timedelta(seconds=30)

    def __post_init__(self) -> None:
        if isinstance(self.failures, bool) or not isinstance(self.failures, int):
            raise TypeError(f"failures of a Fuse must be a whole number, not {self.failures!r}")
        if not 1 <= self.failures <= MAX_FAILURES:
            raise ValueError(
                f"failures of a Fuse must be from 1 to {MAX_FAILURES}, not {self.failures}"
            )
        for name in ("within", "probe_every"):
            if not isinstance(getattr(self, name), timedelta):
                value = getattr(self, name)
                raise TypeError(f"{name} of a Fuse must be a timedelta, not {value!r}")
        if not timedelta() < self.within <= _MAX_WITHIN:
            raise ValueError(f"within of a Fuse must be above 0, at most a day, not {self.within}")
        if not _MIN_PROBE <= self.probe_every <= _MAX_PROBE:
            raise ValueError(
                f"probe_every of a Fuse must be from 1 s to 1 h, not {self.probe_every}"
            )


DEFAULT_PROBE: Final = Fuse(failures=1).probe_every
"""For a fuse that blew under a definition of the handler that this worker no longer has."""


def fuse_of(value: object, action: str) -> Fuse | None:
    """Return the fuse that `pause_after_failures` of a handler gives. Raises as Fuse."""
    if value is None or isinstance(value, Fuse):
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(
            f"pause_after_failures of action {action!r} must be a whole number or a Fuse,"
            f" not {value!r}"
        )
    try:
        return Fuse(failures=value)
    except ValueError as error:
        raise ValueError(f"pause_after_failures of action {action!r}: {error}") from error
