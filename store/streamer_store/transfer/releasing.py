"""Return requests that were running when they were exported to the queue (pure)."""

from __future__ import annotations

from datetime import datetime

from streamer_store.lanes import priority_of
from streamer_store.request_attributes import STATUS_VALUES, change_status, ttl_value, wait_at_once
from streamer_store.times import parse_time
from streamer_store.transitions import RequestStatus
from streamer_store.values import Item
from streamer_store.versions import import_version

_REMOVED = ("WorkerID", "ProcessingStarted")


def released(item: Item, *, export_id: str, now: datetime) -> Item | None:
    """Return a PROCESSING request as `release` leaves it, or None for any other item.

    It is PENDING, or SCHEDULED at low priority, with a new Version. RetryCount and the checkpoint
    are unchanged. Two calls with the same `export_id` give the same Version.
    """
    if item.get("Status") != STATUS_VALUES[RequestStatus.PROCESSING]:
        return None
    request_id = item["RequestID"]["S"]
    priority = priority_of(item.get("Priority", {}).get("S"))
    status, waiting = wait_at_once(priority, _created_at(item), now)
    change = change_status(
        request_id,
        status,
        import_version(export_id, request_id, str(item.get("Version", {}).get("S"))),
        sets=waiting | {"TTL": ttl_value(now)},
        removes=_REMOVED,
        conditions=(),
    )
    kept = {name: value for name, value in item.items() if name not in change.removes}
    return {**kept, **change.sets}


def _created_at(item: Item) -> datetime | None:
    try:
        return parse_time(item["CreatedAt"]["S"])
    except (KeyError, ValueError):
        return None
