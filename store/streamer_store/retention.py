"""How long requests are kept after their end."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Final

from streamer_store.errors import ValidationError
from streamer_store.schema import REQUEST_TTL

_SHORTEST: Final = timedelta(seconds=1)
_LONGEST: Final = timedelta(days=3650)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long requests are kept after their end. Then TTL deletes them, within a few days.

    It holds for requests that end from now on. Those that wait or run are kept for seven days from
    their last change of status. Raises ValidationError for less than a second, and for more than
    ten years.
    """

    completed: timedelta = REQUEST_TTL
    """COMPLETED requests, with their results."""
    failed: timedelta = REQUEST_TTL
    """FAILED requests. After that they cannot be redriven."""
    cancelled: timedelta = REQUEST_TTL
    """CANCELLED requests."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, timedelta) or not _SHORTEST <= value <= _LONGEST:
                raise ValidationError(
                    field.name, f"must be a timedelta from a second to ten years, but is {value!r}"
                )
