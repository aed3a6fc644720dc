"""Checks of arguments and fields (pure). Each raises ValidationError with the name of the field."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from streamer_store.errors import ValidationError
from streamer_store.transitions import RequestStatus
from streamer_store.values import short_repr

MAX_HASH_KEY_BYTES: Final = 2048
LARGEST_COUNT: Final = 2**53 - 1
"""The largest count that JSON readers keep exactly. DynamoDB keeps 38 digits."""


def require_string(name: str, value: object) -> None:
    """Check that the value is a string. It may be empty."""
    if not isinstance(value, str):
        raise ValidationError(name, f"must be text, not {type(value).__name__}")


def require_text(name: str, value: object) -> None:
    """Check that the value is a string of at least one character."""
    require_string(name, value)
    if not value:
        raise ValidationError(name, "must not be empty")


def require_key(name: str, value: object) -> None:
    """Check that the value is a string that may be the key of an item: up to 2,048 bytes.

    Source: DynamoDB Developer Guide, "Service, account, and table quotas".
    """
    require_text(name, value)
    try:
        size = len(value.encode())  # type: ignore[attr-defined]
    except UnicodeEncodeError as error:
        raise ValidationError(name, "has half a surrogate pair, which is no text") from error
    if size > MAX_HASH_KEY_BYTES:
        raise ValidationError(name, f"has {size} bytes, the limit is {MAX_HASH_KEY_BYTES}")


def require_status(value: object) -> RequestStatus:
    """Return the RequestStatus that `value` is or names."""
    try:
        return RequestStatus(value)  # type: ignore[arg-type]
    except ValueError as error:
        raise ValidationError("status", f"{short_repr(value)} is not a request status") from error


def require_limit(value: object) -> int:
    """Return the limit if it is a whole number, 1 or more."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValidationError(
            "limit", f"must be a whole number, 1 or more, not {short_repr(value)}"
        )
    return value


def require_count(name: str, value: object) -> None:
    """Check that the value is a whole number from 0 to LARGEST_COUNT."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or not 0 <= value <= LARGEST_COUNT:  # type: ignore[operator]
        raise ValidationError(
            name, f"must be a whole number from 0 to {LARGEST_COUNT}, not {short_repr(value)}"
        )


def require_optional_count(name: str, value: object) -> None:
    """Check that the value is None or passes `require_count`."""
    if value is not None:
        require_count(name, value)


def require_fraction(name: str, value: object) -> None:
    """Check that the value is a number from 0 to 1."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= 1:  # type: ignore[operator]
        raise ValidationError(
            name, f"must be a finite fraction from 0 to 1, not {short_repr(value)}"
        )


def require_time(name: str, value: object) -> None:
    """Check that the value is a datetime with a time zone, in the years 1 to 9999 in UTC."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValidationError(name, "must be a datetime with a time zone")
    try:
        value.astimezone(UTC)
    except OverflowError as error:
        raise ValidationError(name, "must lie in the years 1 to 9999, in UTC") from error


def require_delay(name: str, value: object) -> None:
    """Check that the value is a timedelta of 0 or more."""
    if not isinstance(value, timedelta) or value < timedelta():
        raise ValidationError(name, f"must be a timedelta of 0 or more, not {short_repr(value)}")


def require_optional_duration(name: str, value: object) -> None:
    """Check that the value is None or a timedelta."""
    if value is not None and not isinstance(value, timedelta):
        raise ValidationError(name, f"must be a timedelta, not {short_repr(value)}")


def require_optional_time(name: str, value: object) -> None:
    """Check that the value is None or passes `require_time`."""
    if value is not None:
        require_time(name, value)


def require_text_mapping(name: str, value: object) -> None:
    """Check that the value is a mapping from strings to strings."""
    if not isinstance(value, Mapping):
        raise ValidationError(name, "must be a mapping of text to text")
    for key, entry in value.items():
        if not isinstance(key, str) or not isinstance(entry, str):
            raise ValidationError(name, f"{short_repr(key)} must map text to text")
