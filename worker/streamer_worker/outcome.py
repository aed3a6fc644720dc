"""From what a handler did to what is written (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from streamer_store.values import encode_document

PROCESSING_FAILED: Final = "PROCESSING_FAILED"
INVALID_ACTION: Final = "INVALID_ACTION"
INVALID_RESULT: Final = "INVALID_RESULT"
ERROR_CHARS: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    error: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class NoHandler:
    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted:
    """The worker stops; the request shall run elsewhere."""


Ended = Returned | Raised | NoHandler | Interrupted


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete:
    result: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail:
    error: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Back to PENDING; no attempt is used."""


Outcome = Complete | Fail | Release


def decide(ended: Ended) -> Outcome:
    """Return what to write. A result that is no mapping is stored as `{"data": ...}`."""
    match ended:
        case Returned(value=value):
            result = value if isinstance(value, Mapping) else {"data": value}
            try:
                encode_document(result, "result")
            except Exception as error:  # noqa: BLE001  a handler's mapping may do anything
                text = f"the handler's result cannot be stored: {message_of(error)}"
                return Fail(error=readable(text), code=INVALID_RESULT)
            return Complete(result=result)
        case Raised(error=error):
            return Fail(error=readable(message_of(error)), code=PROCESSING_FAILED)
        case NoHandler(action=action):
            text = f"no handler is installed for action {action!r}"
            return Fail(error=readable(text), code=INVALID_ACTION)
        case Interrupted():
            return Release()


def readable(text: str) -> str:
    """Return `text` cut at 2,000 characters, with what cannot be printed escaped."""
    return escaped(text if len(text) <= ERROR_CHARS else text[: ERROR_CHARS - 1] + "…")


def escaped(text: str) -> str:
    """Return `text` with what cannot be printed escaped; lines and tabs stay."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in text
    )


def message_of(error: BaseException) -> str:
    """Return what an exception says, or else its name; of a group, what is in it, too."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  the exception is the handler's own
        text = ""
    if isinstance(error, BaseExceptionGroup):
        return f"{text}: {'; '.join(message_of(each) for each in error.exceptions)}"
    return text or type(error).__name__
