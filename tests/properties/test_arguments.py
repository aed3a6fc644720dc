"""Whatever a caller gives is stored, or is refused as a ValidationError that names it."""

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
# Up to the ends of the calendar, where an offset leads out of it.
moments = st.datetimes(
    timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
)


def refusal(portal: BlockingPortal, write: Callable[[Stores, Claim], Awaitable[Any]]) -> str | None:
    """Return the field for which the write of a claim's holder was refused, if it was."""

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
    """Delays below zero and past the end of the calendar are refused as `after`."""
    found = refusal(portal, lambda stores, claim: stores.requests.retry(claim, after))
    assert found in {None, "after"}
    assert found is None or after < timedelta() or after > timedelta(days=36_500)


@given(progress=anything)
@example(progress=5e-324)
def test_progress_of_any_kind(portal: BlockingPortal, progress: Any) -> None:
    """What is no fraction that DynamoDB holds is refused as `progress`."""
    found = refusal(portal, lambda stores, claim: stores.requests.update_progress(claim, progress))
    assert found in {None, "progress"}


@given(error=anything, code=anything)
def test_a_failure_of_any_kind(portal: BlockingPortal, error: Any, code: Any) -> None:
    """What is no text is refused as `error` or `code`, and the request stays as it was."""
    found = refusal(portal, lambda stores, claim: stores.requests.fail(claim, error, code))
    assert found in {None, "error", "code"}


@given(message=anything, details=st.one_of(anything, st.dictionaries(anything, anything)))
def test_progress_with_any_message_and_details(
    portal: BlockingPortal, message: Any, details: Any
) -> None:
    """What cannot be stored is refused as `message` or `details`."""
    found = refusal(
        portal,
        lambda stores, claim: stores.requests.update_progress(claim, None, message, details),
    )
    assert found in {None, "message", "details"}


@given(moment=moments)
@example(moment=datetime.min.replace(tzinfo=timezone(timedelta(hours=5))))
@example(moment=datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))))
def test_a_record_with_any_time(moment: datetime) -> None:
    """A time that is outside the calendar in UTC is refused by name."""
    try:
        record = AsyncRequest(action="echo", request_id="r1", created_at=moment)
    except ValidationError as error:
        refused = error.field
    else:
        assert codec.request(codec.request_item(record)).created_at in {moment, None}
        return
    assert refused == "created_at"
    assert abs(moment.replace(tzinfo=UTC) - START) > timedelta(days=700_000)
