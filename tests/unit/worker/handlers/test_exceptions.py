"""The exceptions by which a handler decides what becomes of its request."""

from __future__ import annotations

import pickle
from datetime import timedelta
from typing import Any

import pytest

from streamer_worker import Reject, RetryLater
from streamer_worker.handlers.exceptions import wait_of


def test_a_rejection_has_a_message_and_a_code() -> None:
    """The code is for programs, the message for people."""
    rejected = Reject("no such report", code="NO_REPORT")
    assert (str(rejected), rejected.code) == ("no such report", "NO_REPORT")
    assert Reject("x").code == "REJECTED"


@pytest.mark.parametrize("after", [90, 90.0, timedelta(seconds=90)])
def test_a_delay_is_seconds_or_a_timedelta(after: Any) -> None:
    """Both become a timedelta. By default the attempt does not count."""
    later = RetryLater("busy", after=after)
    assert (later.after, later.counts, later.reason) == (timedelta(seconds=90), False, "busy")


@pytest.mark.parametrize("after", [-1, timedelta(days=366), 1e300, float("nan"), float("inf")])
def test_a_delay_out_of_range_is_refused(after: Any) -> None:
    """It raises ValueError in the handler."""
    with pytest.raises((ValueError, OverflowError)):
        RetryLater(after=after)


def test_a_scope_is_request_or_action() -> None:
    """Another one raises ValueError in the handler."""
    assert RetryLater(after=1).scope == "request"
    assert RetryLater(after=1, scope="action").scope == "action"
    with pytest.raises(ValueError, match="must be 'request' or 'action', not 'tenant'"):
        RetryLater(after=1, scope="tenant")  # type: ignore[arg-type]


def test_a_code_of_any_type_is_accepted() -> None:
    """A ValueError in place of the Reject would lose the error, and the request would be
    retried.
    """
    assert Reject("x", code="").code == ""


class Forgetful(RetryLater):
    def __init__(self, after: Any = None) -> None:
        if after is not None:
            self.after = after


@pytest.mark.parametrize(
    ("after", "seconds"),
    [
        (None, 60),
        (5, 5),
        (0.5, 0.5),
        ("soon", 60),
        (float("nan"), 60),
        (1e300, 60),
        (-5, 0),
        (timedelta(days=-1), 0),
        (timedelta(days=9999), 365 * 86400),
    ],
)
def test_a_delay_that_a_subclass_sets_is_converted(after: Any, seconds: float) -> None:
    """A value that is no time becomes a minute. The limits are the usual ones."""
    assert wait_of(Forgetful(after)) == timedelta(seconds=seconds)


class NoAccount(Reject):
    def __init__(self, bank: str, *, number: int) -> None:
        super().__init__(f"{bank} has no account {number}", code="NO_ACCOUNT")
        self.number = number


class Closed(RetryLater):
    def __init__(self, bank: str, hours: int) -> None:
        super().__init__(f"{bank} is closed", after=timedelta(hours=hours))


@pytest.mark.parametrize(
    "verdict", [NoAccount("the bank", number=7), Closed("the bank", 9)], ids=str
)
def test_subclasses_with_other_constructors_can_be_pickled(verdict: Any) -> None:
    """They keep their class and their attributes."""
    back = pickle.loads(pickle.dumps(verdict))  # noqa: S301  our own
    assert type(back) is type(verdict)
    assert (str(back), vars(back)) == (str(verdict), vars(verdict))


@pytest.mark.parametrize("verdict", [Reject("x", code="Y"), RetryLater("x", after=5, counts=True)])
def test_reject_and_retry_later_can_be_pickled(verdict: Any) -> None:
    """A handler that uses other processes gets them back complete."""
    back = pickle.loads(pickle.dumps(verdict))  # noqa: S301  our own
    assert vars(back) == vars(verdict)
