"""Rows as the Go store writes them, release v1.0.0: `attributevalue.MarshalMap` of its models.

What is empty and has `omitempty` is absent. A time.Time is never empty for the SDK, so an unset
RetryAfter is the zero time.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from other_writers import go_time

if TYPE_CHECKING:
    from streamer_store.values import Item


def connection_row(connection_id: str, endpoint: str, now: datetime) -> Item:
    """Return what `Save` of the connection store puts."""
    return {
        "ConnectionID": {"S": connection_id},
        "UserID": {"S": "user-456"},
        "TenantID": {"S": "tenant-789"},
        "Endpoint": {"S": endpoint},
        "ConnectedAt": {"S": go_time(now)},
        "LastPing": {"S": go_time(now)},
        "TTL": _after(now, days=1),
    }


def request_row(
    request_id: str, connection_id: str, action: str, payload: dict[str, Any], now: datetime
) -> Item:
    """Return what `Enqueue` puts for a request that has no more than these fields.

    payload: as the map of an attribute of the type M.
    """
    return {
        "RequestID": {"S": request_id},
        "ConnectionID": {"S": connection_id},
        "Status": {"S": "PENDING"},
        "CreatedAt": {"S": go_time(now)},
        "Action": {"S": action},
        "Payload": {"M": payload},
        "Progress": {"N": "0"},
        "RetryCount": {"N": "0"},
        "MaxRetries": {"N": "3"},
        "RetryAfter": {"S": "0001-01-01T00:00:00Z"},
        "UserID": {"S": ""},
        "TenantID": {"S": ""},
        "TTL": _after(now, days=7),
    }


def subscription_row(
    connection_id: str, request_id: str, event_types: list[str], now: datetime
) -> Item:
    """Return what the model of a subscription becomes."""
    return {
        "SubscriptionID": {"S": f"{connection_id}#{request_id}"},
        "ConnectionID": {"S": connection_id},
        "RequestID": {"S": request_id},
        "EventTypes": {"SS": event_types},
        "CreatedAt": {"S": go_time(now)},
        "TTL": _after(now, days=1),
    }


def _after(now: datetime, *, days: int) -> dict[str, str]:
    return {"N": str(int((now + timedelta(days=days)).timestamp()))}
