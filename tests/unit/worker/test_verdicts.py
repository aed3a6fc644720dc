"""What a handler raises to say what shall become of its request."""

from __future__ import annotations

import pickle
from datetime import timedelta
from typing import Any

import pytest

from streamer_worker import Reject, RetryLater


def test_a_rejection_has_a_message_and_a_code() -> None:
    """The code is for programs, the message for people."""
    rejected = Reject("no such report", code="NO_REPORT")
    assert (str(rejected), rejected.code) == ("no such report", "NO_REPORT")
    assert Reject("x").code == "REJECTED"


@pytest.mark.parametrize("after", [90, 90.0, timedelta(seconds=90)])
def test_a_delay_is_seconds_or_a_timedelta(after: Any) -> None:
    """Both are kept as a timedelta; by default no attempt is used."""
    later = RetryLater("busy", after=after)
    assert (later.after, later.counts, later.reason) == (timedelta(seconds=90), False, "busy")


@pytest.mark.parametrize("after", [-1, timedelta(days=366), 1e300, float("nan"), float("inf")])
def test_an_absurd_delay_is_refused(after: Any) -> None:
    """The handler's own mistake is told in its traceback."""
    with pytest.raises((ValueError, OverflowError)):
        RetryLater(after=after)


def test_a_code_is_never_empty() -> None:
    """An empty one could not be stored."""
    with pytest.raises(ValueError, match="code"):
        Reject("x", code="")


@pytest.mark.parametrize("verdict", [Reject("x", code="Y"), RetryLater("x", after=5, counts=True)])
def test_verdicts_may_cross_a_process_pool(verdict: Any) -> None:
    """A handler that works in other processes gets them back whole."""
    back = pickle.loads(pickle.dumps(verdict))  # noqa: S301  our own
    assert vars(back) == vars(verdict)
