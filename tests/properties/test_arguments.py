"""Every argument is stored, or refused with a ValidationError that names it."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from anyio.from_thread import BlockingPortal
from hypothesis import example, given
from hypothesis import strategies as st

from streamer_store import (
    AsyncRequest,
    Claim,
    Stores,
    ValidationError,
    codec,
    memory_stores,
)
from support import START, ManualClock

texts = st.text(st.characters(exclude_categories=[]), max_size=5)
anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    texts,
    st.binary(),
    st.decimals(allow_nan=False),
)
# Times close to the years 1 and 9999 are outside of them in UTC.
moments = st.datetimes(
    timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
)


def refusal(portal: BlockingPortal, write: Callable[[Stores, Claim], Awaitable[Any]]) -> str | None:
    """Return the field that a write by a claim's holder was refused for, or None."""

    async def attempt() -> str | None:
        stores = memory_stores(clock=ManualClock(), rng=random.Random(7))
        stored = await stores.requests.enqueue(AsyncRequest(action="echo"))
        candidate = codec.candidate(codec.request_item(stored))
        claim = await stores.requests.claim(candidate, worker_id="mine")
        try:
            await write(stores, claim)
        except ValidationError as error:
            assert (await stores.requests.get(claim.request_id)) == claim.request
            return error.field.partition(".")[0]
        await stores.requests.get(claim.request_id)
        return None

    return portal.call(attempt)


@given(after=st.timedeltas())
@example(after=timedelta.max)
@example(after=timedelta.min)
def test_a_retry_after_any_delay(portal: BlockingPortal, after: timedelta) -> None:
    """A negative delay, or one past the year 9999, is refused as `after`."""
    field = refusal(portal, lambda stores, claim: stores.requests.retry(claim, after))
    assert field in {None, "after"}
    assert field is None or after < timedelta() or after > timedelta(days=36_500)


@given(progress=anything)
@example(progress=5e-324)
def test_any_progress_is_stored_or_refused(portal: BlockingPortal, progress: Any) -> None:
    """A value that is not a fraction is refused as `progress`."""
    field = refusal(portal, lambda stores, claim: stores.requests.update_progress(claim, progress))
    assert field in {None, "progress"}


@given(error=anything, code=anything)
def test_any_failure_is_stored_or_refused(portal: BlockingPortal, error: Any, code: Any) -> None:
    """A value that is not text is refused as `error` or `code`, without a change of the request."""
    field = refusal(portal, lambda stores, claim: stores.requests.fail(claim, error, code))
    assert field in {None, "error", "code"}


@given(message=anything, details=st.one_of(anything, st.dictionaries(anything, anything)))
def test_progress_with_any_message_and_details(
    portal: BlockingPortal, message: Any, details: Any
) -> None:
    """A value that cannot be stored is refused as `message` or `details`."""
    field = refusal(
        portal,
        lambda stores, claim: stores.requests.update_progress(claim, None, message, details),
    )
    assert field in {None, "message", "details"}


@given(moment=moments)
@example(moment=datetime.min.replace(tzinfo=timezone(timedelta(hours=5))))
@example(moment=datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))))
def test_a_record_with_any_time(moment: datetime) -> None:
    """A time outside the years 1 to 9999 in UTC is refused as `created_at`."""
    try:
        record = AsyncRequest(action="echo", request_id="r1", created_at=moment)
    except ValidationError as error:
        refused = error.field
    else:
        assert codec.request(codec.request_item(record)).created_at in {moment, None}
        return
    assert refused == "created_at"
    assert abs(moment.replace(tzinfo=UTC) - START) > timedelta(days=700_000)
