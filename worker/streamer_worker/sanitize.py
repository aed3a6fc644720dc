"""Makes text from elsewhere safe for the table and for logs (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from streamer_store.values import MAX_DEPTH

ERROR_CHARS: Final = 2000
_MAX_MEMBERS: Final = 10
_MAX_GROUP_DEPTH: Final = 5


# What pydantic writes before the text of a validator's exception.
_VALIDATOR_PREFIXES: Final = {
    "value_error": "Value error, ",
    "assertion_error": "Assertion failed, ",
}


def pydantic_message(fault: Mapping[str, Any]) -> str:
    """Return the text of one fault of a pydantic ValidationError, as its validator wrote it."""
    return str(fault["msg"]).removeprefix(_VALIDATOR_PREFIXES.get(fault["type"], ""))


def sanitized(text: str) -> str:
    """Return `text` with unprintable characters escaped, at most 2,000 characters long. Line
    breaks and tabs are kept.
    """
    # Cut before escaping, to bound the work, and after it, since escapes are longer.
    text = escaped(text[: ERROR_CHARS + 1])
    return text if len(text) <= ERROR_CHARS else text[: ERROR_CHARS - 1] + "…"


def one_line(text: str, limit: int = ERROR_CHARS) -> str:
    """Return `text` on one line, at most `limit` characters long. Unprintable characters, line
    breaks and tabs are escaped.
    """
    text = escaped(text[: limit + 1], keep="")
    return text if len(text) <= limit else text[: limit - 1] + "…"


def escaped(text: str, *, keep: str = "\n\t") -> str:
    """Return `text` with unprintable characters escaped, except those in `keep`."""
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode()
        for char in text
    )


def text_of(value: object) -> str:
    """Return `value` as text. Never raises: `__str__` of a handler's value may."""
    try:
        return value if isinstance(value, str) else str(value)
    except Exception:  # noqa: BLE001  its __str__ may do anything
        return f"<{type(value).__name__}>"


def without_surrogates(value: Any, depth: int = 0) -> Any:
    r"""Return `value` with lone surrogates, which UTF-8 cannot hold, as escapes (`\udcff`).

    All text inside mappings, keys included, lists and sets is converted. Other values are
    returned unchanged, and so are values that are nested deeper than an item can be.
    """
    if depth > MAX_DEPTH:
        return value
    inside = partial(without_surrogates, depth=depth + 1)
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case Mapping():
            return {inside(key): inside(member) for key, member in value.items()}
        case list() | tuple():
            return [inside(member) for member in value]
        case set() | frozenset():
            return {inside(member) for member in value}
    return value


def named_message(error: BaseException) -> str:
    """Return the class and the message of an exception, as a traceback ends. Never raises."""
    return f"{type(error).__name__}: {message_of(error)}"


def message_of(error: BaseException, depth: int = 0) -> str:
    """Return the message of an exception, or the name of its class if there is none. The message
    of a group has those of its members.

    Never raises, and never returns empty text, whatever `__str__` of a handler's exception does.
    """
    try:
        text = str(error)
        if isinstance(error, BaseExceptionGroup) and depth < _MAX_GROUP_DEPTH:
            members = [message_of(member, depth + 1) for member in error.exceptions[:_MAX_MEMBERS]]
            text = f"{text}: {'; '.join(members)}"
    except BaseException:  # noqa: BLE001  even KeyboardInterrupt, when __str__ raises it
        text = ""
    return text or type(error).__name__ or "unknown error"
