"""Unique keys: the id that a key gives, and what is a valid key (pure)."""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from datetime import timedelta
from enum import StrEnum
from typing import Final, Literal, get_args

from streamer_store.errors import ValidationError
from streamer_store.reserved_ids import UNIQUE_PREFIX
from streamer_store.validation import require_text
from streamer_store.values import short_repr

OnConflict = Literal["keep", "replace_waiting"]
"""What `enqueue` does if the key has a request that has not ended.

- `keep`: that request is the answer.
- `replace_waiting`: the new request takes its place, if it waits.
"""
MAX_KEY_BYTES: Final = 1024
LONGEST_WINDOW: Final = timedelta(days=30)
_CHOICES: Final[tuple[str, ...]] = get_args(OnConflict)
_ID_CHARS: Final = 26
"""130 bits, which no two keys share by chance."""


class Enqueued(StrEnum):
    """What became of a request that was enqueued."""

    CREATED = "created"
    """It was stored."""
    EXISTS = "exists"
    """Its unique key had a request, which is the answer. Nothing was stored."""
    REPLACED = "replaced"
    """It took the place of the request that waited under its unique key."""


def unique_id(action: str, unique_key: str, *, tenant_id: str | None = None) -> str:
    """Return the id of the request with this unique key.

    It is `unique#` and the first 26 characters of SHA-256, in base32 and lower case, over tenant,
    action and key. Each is preceded by its length in bytes and a colon, and followed by a comma.
    No tenant is an empty text. Raises ValidationError for a wrong key.
    """
    require_unique_key(unique_key)
    digest = hashlib.sha256()
    for text in (tenant_id or "", action, unique_key):
        data = _utf8(text)
        digest.update(b"%d:%b," % (len(data), data))
    return UNIQUE_PREFIX + base64.b32encode(digest.digest())[:_ID_CHARS].decode().lower()


def require_unique_key(value: object) -> None:
    """Check that the value is text of 1 to 1,024 bytes, not blank, without control characters."""
    require_text("unique_key", value)
    text = str(value)
    if not text.strip():
        raise ValidationError("unique_key", "must not be blank")
    size = len(_utf8(text, "unique_key"))
    if size > MAX_KEY_BYTES:
        raise ValidationError("unique_key", f"has {size} bytes, the limit is {MAX_KEY_BYTES}")
    for place, character in enumerate(text):
        if unicodedata.category(character) == "Cc":
            raise ValidationError(
                "unique_key", f"has the control character {character!r} at position {place}"
            )


def require_window(value: object) -> None:
    """Check that the value is a timedelta above zero, of 30 days at most."""
    if not isinstance(value, timedelta) or not timedelta() < value <= LONGEST_WINDOW:
        raise ValidationError(
            "unique_for",
            f"must be a timedelta above zero and of {LONGEST_WINDOW.days} days at most,"
            f" not {value if isinstance(value, timedelta) else short_repr(value)}",
        )


def require_on_conflict(value: object) -> None:
    """Check that the value is one of OnConflict."""
    if value not in _CHOICES:
        names = " or ".join(_CHOICES)
        raise ValidationError("on_conflict", f"must be {names}, not {short_repr(value)}")


def _utf8(text: str, field: str = "action") -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValidationError(field, "has half a surrogate pair, which is no text") from error
