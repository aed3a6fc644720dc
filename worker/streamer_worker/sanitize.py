"""Text from elsewhere, made fit for the table and for logs (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from streamer_store.values import MAX_DEPTH

ERROR_CHARS: Final = 2000
_MEMBERS: Final = 10
_DEEPEST: Final = 5


def sanitized(text: str) -> str:
    """Return `text` with what cannot be printed escaped, cut at 2,000 characters."""
    # Escapes make it longer, so it is cut before, to bound the work, and after.
    text = escaped(text[: ERROR_CHARS + 1])
    return text if len(text) <= ERROR_CHARS else text[: ERROR_CHARS - 1] + "…"


def one_line(text: str, limit: int = ERROR_CHARS) -> str:
    """Return `text` on one line, cut at `limit` characters: line breaks and tabs are escaped as
    everything else is that cannot be printed.
    """
    text = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in text[: limit + 1]
    )
    return text if len(text) <= limit else text[: limit - 1] + "…"


def escaped(text: str) -> str:
    """Return `text` with what cannot be printed escaped; lines and tabs stay."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in text
    )


def text_of(value: object) -> str:
    """Return `value` as text. Never raises: the value is somebody else's."""
    try:
        return value if isinstance(value, str) else str(value)
    except Exception:  # noqa: BLE001  its __str__ may do anything
        return f"<{type(value).__name__}>"


def without_surrogates(value: Any, depth: int = 0) -> Any:
    r"""Return text with lone surrogates, which UTF-8 cannot hold, as escapes (`\udcff`). Of
    mappings, lists and sets all text in them is treated so, keys too. Other values, and what is
    nested deeper than an item may be, are returned as they are.
    """
    if depth > MAX_DEPTH:
        return value
    inside = partial(without_surrogates, depth=depth + 1)
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case Mapping():
            return {inside(key): inside(each) for key, each in value.items()}
        case list() | tuple():
            return [inside(each) for each in value]
        case set() | frozenset():
            return {inside(each) for each in value}
    return value


def message_of(error: BaseException, depth: int = 0) -> str:
    """Return what an exception says, or else its name; of a group, what is in it, too.

    Never raises, and is never empty: the exception is somebody else's.
    """
    try:
        text = str(error)
        if isinstance(error, BaseExceptionGroup) and depth < _DEEPEST:
            members = [message_of(each, depth + 1) for each in error.exceptions[:_MEMBERS]]
            text = f"{text}: {'; '.join(members)}"
    except BaseException:  # noqa: BLE001  even KeyboardInterrupt, when __str__ raises it
        text = ""
    return text or type(error).__name__ or "unknown error"
