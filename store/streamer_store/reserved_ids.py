"""Ids that only this package makes (pure)."""

from __future__ import annotations

from typing import Final

from streamer_store.errors import ValidationError
from streamer_store.values import Item

CONTROL_PREFIX: Final = "control#"
"""Rows of the workers table and items of requests that control the fleet: no workers, no requests.

They have no StartedAt, Beat or Status, so that older releases never take them for one.
"""
CRON_PREFIX: Final = "cron#"
"""Requests that a schedule made."""
UNIQUE_PREFIX: Final = "unique#"
"""Requests that have a unique key."""
_RESERVED: Final = (CONTROL_PREFIX, CRON_PREFIX, UNIQUE_PREFIX)


def is_control_item(item: Item) -> bool:
    """Return whether an item of requests controls the fleet, so that it is no request."""
    key = item.get("RequestID", {}).get("S", "")
    return key.startswith(CONTROL_PREFIX) and "Status" not in item


def require_own_id(name: str, value: str) -> None:
    """Raise ValidationError for an id that a caller must not choose."""
    prefix = next((prefix for prefix in _RESERVED if value.startswith(prefix)), None)
    if prefix is not None:
        raise ValidationError(name, f"must not begin with {prefix}, which is reserved")
