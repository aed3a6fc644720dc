"""From what a handler did to what is written."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import pytest

from streamer_store.values import encode
from streamer_worker.outcome import (
    ERROR_CHARS,
    INVALID_ACTION,
    INVALID_RESULT,
    PROCESSING_FAILED,
    Complete,
    Fail,
    Interrupted,
    NoHandler,
    Raised,
    Release,
    Returned,
    decide,
    readable,
)


class Unreadable(Mapping[str, Any]):
    """A mapping that breaks when it is read."""

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError("connection closed")

    def __iter__(self) -> Iterator[str]:
        yield "row"

    def __len__(self) -> int:
        return 1


class Wordless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def failed(error: BaseException) -> Fail:
    outcome = decide(Raised(error=error))
    assert isinstance(outcome, Fail)
    return outcome


@pytest.mark.parametrize("value", [{}, {"url": "x"}, OrderedDict(a=1), {"n": {"deep": [1, None]}}])
def test_a_mapping_is_the_result_as_it_is(value: Mapping[str, Any]) -> None:
    """A handler's mapping is stored unchanged."""
    assert decide(Returned(value=value)) == Complete(result=value)


@pytest.mark.parametrize("value", [None, "text", "", 0, 1.5, True, [1, 2], (), b"x", {1, 2}])
def test_what_is_no_mapping_becomes_data(value: Any) -> None:
    """Other results are stored as `{"data": ...}`, None and empty ones too."""
    assert decide(Returned(value=value)) == Complete(result={"data": value})


@pytest.mark.parametrize(
    ("value", "told"),
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
    ids=lambda each: each if isinstance(each, str) else type(each).__name__,
)
def test_a_result_that_cannot_be_stored_fails_the_request(value: Any, told: str) -> None:
    """The code is INVALID_RESULT, and the text says what cannot be stored."""
    outcome = decide(Returned(value=value))
    assert isinstance(outcome, Fail)
    assert outcome.code == INVALID_RESULT
    assert told in outcome.error


def test_a_result_without_end_fails_the_request() -> None:
    """A structure that holds itself is refused, not followed."""
    endless: dict[str, Any] = {}
    endless["self"] = endless
    outcome = decide(Returned(value=endless))
    assert isinstance(outcome, Fail)
    assert outcome.code == INVALID_RESULT


def test_a_result_that_breaks_when_read_fails_the_request() -> None:
    """Whatever a lazy mapping raises is its request's failure, not the worker's."""
    outcome = decide(Returned(value=Unreadable()))
    assert isinstance(outcome, Fail)
    assert outcome.code == INVALID_RESULT
    assert "connection closed" in outcome.error


def test_an_exception_fails_the_request_with_its_message() -> None:
    """The message is stored as it is, with PROCESSING_FAILED."""
    assert failed(ValueError("no rows")) == Fail(error="no rows", code=PROCESSING_FAILED)


@pytest.mark.parametrize("error", [ValueError(), ValueError(""), SystemExit()])
def test_an_exception_without_text_is_told_by_its_name(error: BaseException) -> None:
    """The stored error is never empty."""
    assert failed(error).error in {type(error).__name__, str(error)}
    assert failed(error).error


def test_an_exception_that_has_no_words_is_told_by_its_name() -> None:
    """An exception whose own text raises still gives a failure that can be stored."""
    assert failed(Wordless()) == Fail(error="Wordless", code=PROCESSING_FAILED)


def test_a_group_tells_what_is_in_it() -> None:
    """A task group in a handler hides no reason: each inner message is stored."""
    group = ExceptionGroup(
        "unhandled errors",
        [ValueError("first reason"), ExceptionGroup("inner", [KeyError("second")])],
    )
    text = failed(group).error
    assert "first reason" in text
    assert "second" in text


def test_a_long_text_is_cut() -> None:
    """2,000 characters are kept, the last one shows that something is missing."""
    text = failed(ValueError("x" * 100_000)).error
    assert len(text) == ERROR_CHARS
    assert text.endswith("x…")


def test_a_text_of_the_limit_is_whole() -> None:
    """Nothing is cut that fits."""
    assert failed(ValueError("x" * ERROR_CHARS)).error == "x" * ERROR_CHARS


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("a\x1b[31mred", r"a\x1b[31mred"),
        ("nul\x00", r"nul\x00"),
        ("\u202eright to left", r"\u202eright to left"),
        ("two\nlines\tand tab", "two\nlines\tand tab"),
        ("back\rwards", r"back\rwards"),
        ("Größe 数 😀", "Größe 数 😀"),
        ("lone \ud800", r"lone \ud800"),
    ],
)
def test_what_cannot_be_printed_is_escaped(raw: str, shown: str) -> None:
    """Control characters and lone surrogates are shown as escapes; lines and letters stay."""
    assert failed(ValueError(raw)).error == shown


@pytest.mark.parametrize("raw", ["\ud800", "\udfff" * 5000, "\x00" * 5000, "a\ud83dz"])
def test_every_error_text_can_be_stored(raw: str) -> None:
    """Whatever the message holds, DynamoDB takes the text."""
    assert encode(failed(ValueError(raw)).error) == {"S": readable(raw)}


def test_an_unknown_action_is_told_by_name() -> None:
    """The code is INVALID_ACTION; the action is shown, escaped."""
    outcome = decide(NoHandler(action="no\x07such"))
    assert isinstance(outcome, Fail)
    assert outcome.code == INVALID_ACTION
    assert "no\\x07such" in outcome.error


def test_an_interrupted_request_goes_back() -> None:
    """An interruption is no failure: the request is released."""
    assert decide(Interrupted()) == Release()
