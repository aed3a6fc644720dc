"""A worker's share of an action of which the whole fleet runs a limited number (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from streamer_store.validation import require_count
from streamer_store.values import AttributeValue, encode_document


@dataclass(frozen=True, slots=True)
class FleetShare:
    """What one worker has of one action.

    - `running`: how many of its requests it runs.
    - `limit`: how many it may run until its next heartbeat, or `running` if that is more.
    - `wanted`: how many it could run.
    """

    running: int = 0
    limit: int = 0
    wanted: int = 0

    def __post_init__(self) -> None:
        for name in ("running", "limit", "wanted"):
            require_count(name, getattr(self, name))


Shares = Mapping[str, FleetShare]
"""The shares of a worker by action."""
NO_SHARES: Final[Shares] = {}


def read_shares(value: Any) -> Shares:
    """Return the shares of a stored map. Raises ValueError for another shape."""
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a map, found {type(value).__name__}")
    return {action: _read_share(numbers) for action, numbers in value.items()}


def write_shares(shares: Shares, field: str) -> AttributeValue:
    """Return the shares as an attribute value: a map of lists of three numbers."""
    document = {
        action: [share.running, share.limit, share.wanted] for action, share in shares.items()
    }
    return encode_document(document, field)


def _read_share(numbers: Any) -> FleetShare:
    is_count = isinstance(numbers, list) and all(
        type(number) is int and number >= 0 for number in numbers
    )
    if not is_count or len(numbers) != 3:  # noqa: PLR2004  the fields of FleetShare
        raise ValueError(f"expected three whole numbers, found {numbers!r}")
    return FleetShare(*numbers)
