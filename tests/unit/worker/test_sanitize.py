"""Text from elsewhere, made fit for the table and for logs."""

from __future__ import annotations

import pytest

from streamer_worker.sanitize import ERROR_CHARS, message_of, sanitized


class Wordless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Interrupting(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


@pytest.mark.parametrize("error", [ValueError(), ValueError(""), SystemExit(), Wordless()])
def test_an_exception_without_text_is_told_by_its_name(error: BaseException) -> None:
    """The text is never empty."""
    assert message_of(error) == type(error).__name__


def test_an_exceptions_text_can_break_nothing() -> None:
    """Not even with a KeyboardInterrupt of its own."""
    assert message_of(Interrupting()) == "Interrupting"


def test_a_group_tells_what_is_in_it() -> None:
    """A task group in a handler hides no reason."""
    group = ExceptionGroup(
        "unhandled errors",
        [ValueError("first reason"), ExceptionGroup("inner", [KeyError("second")])],
    )
    text = message_of(group)
    assert "first reason" in text
    assert "second" in text


def test_a_group_without_end_is_bounded() -> None:
    """Of many members the first ten are told, of many levels the first five."""
    wide = ExceptionGroup("wide", [ValueError(f"<{number}>") for number in range(1000)])
    assert "<9>" in message_of(wide)
    assert "<10>" not in message_of(wide)
    deep: Exception = ValueError("bottom")
    for level in range(50):
        deep = ExceptionGroup(f"level {level}", [deep])
    assert "level 45" in message_of(deep)
    assert "bottom" not in message_of(deep)


def test_a_long_text_is_cut() -> None:
    """2,000 characters are kept, the last one shows that something is missing."""
    text = sanitized("x" * 100_000)
    assert len(text) == ERROR_CHARS
    assert text.endswith("x…")


def test_a_text_of_the_limit_is_whole() -> None:
    """Nothing is cut that fits."""
    assert sanitized("x" * ERROR_CHARS) == "x" * ERROR_CHARS


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
    assert sanitized(raw) == shown
