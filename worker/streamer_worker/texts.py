"""Text from elsewhere, made fit for the table and for logs (pure)."""

from __future__ import annotations

from typing import Final

ERROR_CHARS: Final = 2000
_MEMBERS: Final = 10
_DEEPEST: Final = 5


def readable(text: str) -> str:
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
