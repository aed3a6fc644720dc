"""The list of failed attempts stays within its bounds, whatever is added and whatever is stored."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from properties.strategies import times, values
from properties.test_records import absent_or
from streamer_store.attempts import (
    MAX_ATTEMPTS,
    MAX_BYTES,
    MAX_TEXT_BYTES,
    Attempt,
    attempts_value,
    read_attempts,
)
from streamer_store.values import encode, item_size

# Characters of one to four bytes, and half of a surrogate pair, which cannot be stored.
unbounded = st.builds(
    lambda text, times: text * times,
    st.text(alphabet=st.sampled_from("aäठ😀\u0301\n\x00\ud800"), min_size=1, max_size=20),
    st.integers(1, 60),
)
attempts: SearchStrategy[Attempt] = st.builds(
    Attempt,
    number=st.integers(0, 2**53 - 1),
    ended=times,
    outcome=unbounded,
    worker_id=absent_or(unbounded),
    started=absent_or(times),
    error_code=absent_or(unbounded),
    error_class=absent_or(unbounded),
    error=absent_or(unbounded),
)
lists = st.lists(attempts, max_size=14)
_TEXTS = ("worker_id", "error_code", "error_class", "error", "outcome")


def size_of(stored: Any) -> int:
    return item_size({"Attempts": stored})


def storable(text: str | None) -> str | None:
    """Return the text as `encode` accepts it: another character for half a surrogate pair."""
    return None if text is None else text.replace("\ud800", "?")


@given(lists)
def test_a_list_is_cut_to_its_bounds(given_: list[Attempt]) -> None:
    """It has the newest attempts that fit, in order, and each text is the longest that fits."""
    stored = attempts_value(given_)
    assert size_of(stored) <= MAX_BYTES
    read = read_attempts(stored)
    assert len(read) == len(stored["L"]) <= MAX_ATTEMPTS
    assert bool(read) == bool(given_)
    for attempt, original in zip(reversed(read), reversed(given_), strict=False):
        assert (attempt.number, attempt.ended) == (original.number, original.ended)
        assert attempt.started == original.started
        for name in _TEXTS:
            text, whole = getattr(attempt, name), storable(getattr(original, name))
            if whole is None:
                assert text is None
                continue
            assert whole.startswith(text)
            assert len(text.encode()) <= MAX_TEXT_BYTES
            longer = whole[: len(text) + 1]
            assert text == whole or len(longer.encode()) > MAX_TEXT_BYTES
    if len(read) < min(len(given_), MAX_ATTEMPTS):
        next_older = attempts_value(given_[-len(read) - 1 :][:1])["L"]
        assert size_of({"L": next_older + stored["L"]}) > MAX_BYTES


@given(lists, attempts)
def test_a_list_that_was_read_is_written_unchanged(given_: list[Attempt], added: Attempt) -> None:
    """What one worker writes, the next one writes again, without what no longer fits."""
    read = read_attempts(attempts_value(given_))
    assert read_attempts(attempts_value(read)) == read
    again = read_attempts(attempts_value((*read, added)))
    assert again[:-1] == read[len(read) - len(again) + 1 :]


entries: SearchStrategy[Any] = st.one_of(
    values.map(encode),
    st.fixed_dictionaries(
        {},
        optional={
            name: st.one_of(
                values, unbounded.map(storable), st.just("2066-03-14T15:09:26Z"), st.just(3)
            )
            for name in ("Number", "Ended", "Outcome", "Started", "WorkerID", "Error")
        },
    ).map(encode),
    st.just({"M": {"Number": {"N": "many"}}}),
    st.just({"X": "a type of a later DynamoDB"}),
    st.just({}),
)
stored_values: SearchStrategy[Any] = st.one_of(
    values.map(encode), st.lists(entries, max_size=14).map(lambda found: {"L": found})
)


@given(stored_values)
def test_any_stored_value_is_a_list_of_attempts(stored: Any) -> None:
    """Reading raises nothing, and what was read can be written."""
    read = read_attempts(stored)
    assert len(read) <= MAX_ATTEMPTS
    assert all(isinstance(attempt.ended, datetime) for attempt in read)
    assert size_of(attempts_value(read)) <= MAX_BYTES
