"""Deciding the outcome from how an attempt ended."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from streamer_store import AsyncRequest, Rescued, WorkerLoss
from streamer_store.values import encode
from streamer_worker import Reject, RetryLater, RetryPolicy
from streamer_worker.error_codes import (
    INVALID_ACTION,
    INVALID_RESULT,
    ITEM_TOO_LARGE,
    PROCESSING_FAILED,
    TIMEOUT,
    WORKER_LOST,
)
from streamer_worker.execution.outcome import (
    AttemptEnd,
    Complete,
    Fail,
    Fenced,
    Interrupted,
    NoHandler,
    Outcome,
    Raised,
    Release,
    Retry,
    Returned,
    TimedOut,
    decide,
)
from support import START

NO_RETRIES = AsyncRequest(action="a", request_id="r", max_retries=0)
TWO_RETRIES = replace(NO_RETRIES, max_retries=2)
LAST_ATTEMPT = replace(TWO_RETRIES, retry_count=2)
POLICY = RetryPolicy(first=10, longest=30)
# What ends an attempt, and the code under which it is stored.
FAILED_ATTEMPTS: list[tuple[AttemptEnd, str]] = [
    (Raised(error=ValueError("no rows")), PROCESSING_FAILED),
    (TimedOut(seconds=3), TIMEOUT),
    (Raised(error=RetryLater(after=20, counts=True)), PROCESSING_FAILED),
]
STARVED = Fenced(loss=WorkerLoss(last_seen=START))


def decided(ended: AttemptEnd, request: AsyncRequest = NO_RETRIES) -> Outcome:
    return decide(ended, request=request, policy=POLICY, rng=random.Random(1))


def result_of(value: Any) -> Outcome:
    return decided(Returned(value=value))


class Unreadable(Mapping[str, Any]):
    """A mapping that raises when it is read."""

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError("connection closed")

    def __iter__(self) -> Iterator[str]:
        yield "row"

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize("value", [{}, {"url": "x"}, OrderedDict(a=1), {"n": {"deep": [1, None]}}])
def test_a_mapping_is_the_result_as_it_is(value: Mapping[str, Any]) -> None:
    """A handler's mapping is stored unchanged."""
    assert result_of(value) == Complete(result=value)


@pytest.mark.parametrize("value", [None, "text", "", 0, 1.5, True, [1, 2], b"x", {1, 2}])
def test_a_result_that_is_no_mapping_becomes_data(value: Any) -> None:
    """It is stored as `{"data": ...}`, None and empty results, too."""
    assert result_of(value) == Complete(result={"data": value})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"rate": float("nan")}, "result.rate"),
        (float("inf"), "result.data"),
        (Decimal("sNaN"), "result.data"),
        ({"tags": {1, "a"}}, "result.tags"),
        (set(), "empty sets"),
        (object(), "object"),
        ({"file": object()}, "result.file"),
        ({1: "x"}, "key 1"),
        ({"": "x"}, "key is empty"),
        ({"text": "\ud800"}, "surrogate"),
        (10**200, "larger"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_result_that_cannot_be_stored_fails_the_request(value: Any, text: str) -> None:
    """The code is INVALID_RESULT, and the text says what cannot be stored."""
    outcome = result_of(value)
    assert isinstance(outcome, Fail)
    assert outcome.code == INVALID_RESULT
    assert text in outcome.error


def test_a_result_that_contains_itself_fails_the_request() -> None:
    """It is refused instead of followed."""
    endless: dict[str, Any] = {}
    endless["self"] = endless
    outcome = result_of(endless)
    assert isinstance(outcome, Fail)
    assert outcome.code == INVALID_RESULT


def test_a_result_changed_after_the_decision_is_stored_as_it_was() -> None:
    """A handler that keeps its mapping and changes it later changes no result."""
    kept: dict[str, Any] = {"rows": [1]}
    outcome = result_of(kept)
    kept["rows"].append(float("nan"))
    assert outcome == Complete(result={"rows": [1]})


def test_a_result_that_no_item_can_hold_fails_the_request() -> None:
    """It is not sent."""
    outcome = result_of({"text": "x" * 410_000})
    assert isinstance(outcome, Fail)
    assert outcome.code == ITEM_TOO_LARGE


def test_a_result_that_raises_when_read_fails_the_request() -> None:
    """The exception of a lazy mapping fails its request, not the worker."""
    outcome = result_of(Unreadable())
    assert isinstance(outcome, Fail)
    assert outcome.code == INVALID_RESULT
    assert "connection closed" in outcome.error


@pytest.mark.parametrize(("ended", "code"), FAILED_ATTEMPTS)
def test_a_failed_attempt_is_followed_by_another(ended: AttemptEnd, code: str) -> None:
    """While retries are left the request is retried, and keeps the error meanwhile."""
    outcome = decided(ended, TWO_RETRIES)
    assert isinstance(outcome, Retry)
    assert (outcome.code, outcome.counts) == (code, True)
    assert outcome.error


@pytest.mark.parametrize(("ended", "code"), FAILED_ATTEMPTS)
@pytest.mark.parametrize("request_", [NO_RETRIES, LAST_ATTEMPT], ids=["none", "used-up"])
def test_past_max_retries_the_request_fails(
    ended: AttemptEnd, code: str, request_: AsyncRequest
) -> None:
    """It has the error of the last attempt."""
    outcome = decided(ended, request_)
    assert isinstance(outcome, Fail)
    assert outcome.code == code
    assert outcome.error


@pytest.mark.parametrize(("attempt", "most"), [(1, 10), (2, 20), (3, 30), (9, 30)])
def test_delays_come_from_the_handlers_policy(attempt: int, most: float) -> None:
    """They lie between 0 and the policy's maximum for that attempt."""
    request = replace(TWO_RETRIES, retry_count=attempt - 1, max_retries=100)
    rng = random.Random(attempt)
    waits = []
    for _ in range(200):
        raised = Raised(error=ValueError("x"))
        outcome = decide(raised, request=request, policy=POLICY, rng=rng)
        assert isinstance(outcome, Retry)
        waits.append(outcome.after.total_seconds())
    assert 0 <= min(waits) < most * 0.1
    assert most * 0.9 < max(waits) <= most


def test_an_exception_fails_the_request_with_its_message() -> None:
    """The message is stored as it is, with PROCESSING_FAILED."""
    expected = Fail(error="no rows", code=PROCESSING_FAILED)
    assert decided(Raised(error=ValueError("no rows"))) == expected


@pytest.mark.parametrize("raw", ["\ud800", "\udfff" * 5000, "\x00" * 5000, "a\ud83dz", ""])
@pytest.mark.parametrize("kind", [ValueError, Reject, SystemExit])
def test_every_error_text_can_be_stored(raw: str, kind: Any) -> None:
    """Any message gives a text that DynamoDB accepts and that is not empty."""
    outcome = decided(Raised(error=kind(raw)))
    assert isinstance(outcome, Fail)
    assert encode(outcome.error) != {"S": ""}


@pytest.mark.parametrize("request_", [NO_RETRIES, TWO_RETRIES])
def test_a_rejected_request_fails_at_once(request_: AsyncRequest) -> None:
    """It has the handler's code, however many retries are left."""
    rejected = Raised(error=Reject("no such table", code="NO_TABLE"))
    assert decided(rejected, request_) == Fail(error="no such table", code="NO_TABLE")


@pytest.mark.parametrize("request_", [NO_RETRIES, TWO_RETRIES, LAST_ATTEMPT])
def test_a_snoozed_request_runs_again_after_its_delay(request_: AsyncRequest) -> None:
    """The attempt does not count, so it is snoozed without a retry left, too."""
    outcome = decided(Raised(error=RetryLater("busy", after=90)), request_)
    assert outcome == Retry(after=timedelta(seconds=90), error="busy", code=None, counts=False)


def test_snoozing_needs_no_reason() -> None:
    """Without a reason no error is stored."""
    outcome = decided(Raised(error=RetryLater(after=timedelta(hours=1))))
    assert outcome == Retry(after=timedelta(hours=1), error=None, code=None, counts=False)


@pytest.mark.parametrize("counts", [False, True])
@pytest.mark.parametrize("request_", [NO_RETRIES, TWO_RETRIES])
def test_retry_later_may_hold_its_action(request_: AsyncRequest, *, counts: bool) -> None:
    """Also if the request itself has failed for good. By default nothing is held."""
    for scope, hold in (("action", timedelta(seconds=9)), ("request", None)):
        error = RetryLater("busy", after=9, counts=counts, scope=scope)  # type: ignore[arg-type]
        outcome = decided(Raised(error=error), request_)
        assert isinstance(outcome, Retry | Fail)
        assert outcome.hold == hold


def test_retry_later_that_counts_replaces_the_delay_of_the_policy() -> None:
    """It is a failed attempt with the delay that the handler set."""
    outcome = decided(Raised(error=RetryLater(after=500, counts=True)), TWO_RETRIES)
    assert isinstance(outcome, Retry)
    assert outcome.after == timedelta(seconds=500)


def test_the_error_of_a_timeout_has_its_seconds() -> None:
    """So an operator sees which limit was reached."""
    outcome = decided(TimedOut(seconds=2.5))
    assert outcome == Fail(error="the handler did not end within 2.5 s", code=TIMEOUT)


def test_an_unknown_action_fails_with_its_name() -> None:
    """The code is INVALID_ACTION, the action is escaped in the error, and there is no retry."""
    outcome = decided(NoHandler(action="no\x07such"), TWO_RETRIES)
    assert isinstance(outcome, Fail)
    assert outcome.code == INVALID_ACTION
    assert "no\\x07such" in outcome.error


def test_an_interrupted_request_is_released() -> None:
    """An interruption is no failure. Proves DRAIN-1."""
    assert decided(Interrupted()) == Release()


def test_a_fenced_workers_request_uses_no_attempt() -> None:
    """The loss counts as a rescue, with the delay of a rescue, also on the last attempt.

    Proves RESCUE-4.
    """
    outcome = decided(STARVED, replace(LAST_ATTEMPT, worker_id="w1", rescues=1, solo=1))
    assert isinstance(outcome, Retry)
    assert timedelta() <= outcome.after <= timedelta(seconds=4)
    assert (outcome.counts, outcome.code) == (False, WORKER_LOST)
    assert outcome.error == "its worker w1 fenced itself"
    assert outcome.rescued == Rescued(rescues=2, solo=0, after=outcome.after)


def test_a_request_that_starves_its_workers_fails_in_the_end() -> None:
    """In probation no other request can have been the cause. Without retries it fails at once."""
    alone = replace(
        TWO_RETRIES,
        rescues=5,
        solo=3,
        alone="v",
        version="v",
        processing_started=START - timedelta(seconds=20),
    )
    for request in (alone, NO_RETRIES):
        outcome = decided(STARVED, request)
        assert isinstance(outcome, Fail)
        assert outcome.code == WORKER_LOST


def test_a_result_that_changes_later_is_stored_as_it_was() -> None:
    """A handler's tasks may still use what it returned."""
    tags = {"a"}
    outcome = decided(Returned(value={"tags": tags}))
    tags.add("b")
    assert outcome == Complete(result={"tags": {"a"}})
