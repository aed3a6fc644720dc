"""When a request may run first, as a producer or an operator says it (pure)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from streamer_store.errors import ValidationError
from streamer_store.lanes import Priority
from streamer_store.models import AsyncRequest
from streamer_store.schema import REQUEST_TTL
from streamer_store.times import epoch
from streamer_store.transitions import RequestStatus
from streamer_store.validation import require_delay, require_time

YEAR: Final = timedelta(days=366)
"""A time further ahead is more often a mistake than a plan."""
_LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)
"""So that TTL, which is later, is a time, too."""


def run_time(run_at: datetime | None, delay: timedelta | None, *, now: datetime) -> datetime | None:
    """Return the time that one of the two names, or None if both are None.

    Raises ValidationError if both are given, for a time without a time zone and for a delay below
    zero.
    """
    if delay is None:
        if run_at is not None:
            require_time("run_at", run_at)
        return run_at
    if run_at is not None:
        raise ValidationError("delay", "cannot be combined with `run_at`: give one of them")
    require_delay("delay", delay)
    try:
        return now + delay
    except OverflowError as error:
        raise ValidationError("delay", "ends after the year 9999") from error


def require_run_time(moment: datetime, *, now: datetime, beyond_a_year: bool) -> None:
    """Raise ValidationError for a time more than a year ahead, unless `beyond_a_year` allows it."""
    if moment - now > YEAR and not beyond_a_year:
        text = f"is more than a year ahead ({moment.isoformat()}): allow that with `beyond_a_year`"
        raise ValidationError("run_at", text)
    if moment > _LATEST:
        raise ValidationError("run_at", f"must be before the year {_LATEST.year}")


def as_waiting(request: AsyncRequest, *, now: datetime, beyond_a_year: bool = True) -> AsyncRequest:
    """Return a new request with its status, RetryAfter and TTL. CreatedAt must be set.

    A time that has passed means at once. Such a request, and one without a time, is as if
    released (see `wait_at_once`). Raises ValidationError.
    """
    retry_after = request.retry_after
    if retry_after is not None and retry_after <= now:
        retry_after = None
    ttl = epoch(now, REQUEST_TTL) if request.ttl is None else request.ttl
    if retry_after is not None:
        require_run_time(retry_after, now=now, beyond_a_year=beyond_a_year)
        # TTL never takes what still waits.
        ttl = max(ttl, epoch(retry_after, REQUEST_TTL))
    elif request.priority is Priority.LOW:
        retry_after = request.created_at
    return replace(
        request,
        status=RequestStatus.PENDING if retry_after is None else RequestStatus.SCHEDULED,
        retry_after=retry_after,
        ttl=ttl,
    )
