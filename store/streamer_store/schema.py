"""Tables, keys, indexes and projections (pure).

Why the projections are slim: a progress write then touches no index, and a request's life
costs 14 write units, not 26.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

TTL_ATTRIBUTE: Final = "TTL"
REQUEST_TTL: Final = timedelta(days=7)
OTHER_TTL: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Index:
    """A global secondary index.

    `non_key_attributes`: the attributes it projects besides the keys. None projects all.
    """

    name: str
    hash_key: str
    range_key: str | None = None
    non_key_attributes: tuple[str, ...] | None = None

    @property
    def projection_type(self) -> str:
        if self.non_key_attributes is None:
            return "ALL"
        return "INCLUDE" if self.non_key_attributes else "KEYS_ONLY"


@dataclass(frozen=True, slots=True)
class Table:
    """A table; `name` is without the prefix. Every key attribute is text."""

    name: str
    hash_key: str
    indexes: tuple[Index, ...] = ()

    def index(self, name: str) -> Index:
        return next(index for index in self.indexes if index.name == name)


CONNECTIONS: Final = Table(
    "connections",
    "ConnectionID",
    (Index("UserIndex", "UserID"), Index("TenantIndex", "TenantID")),
)
REQUESTS: Final = Table(
    "requests",
    "RequestID",
    (
        Index("ConnectionIndex", "ConnectionID", "CreatedAt", ()),
        Index(
            "StatusIndex",
            "Status",
            "CreatedAt",
            ("Action", "TenantID", "RetryAfter", "WorkerID", "Version", "Rescues"),
        ),
    ),
)
SUBSCRIPTIONS: Final = Table(
    "subscriptions",
    "SubscriptionID",
    (Index("ConnectionIndex", "ConnectionID"), Index("RequestIndex", "RequestID")),
)
WORKERS: Final = Table("workers", "WorkerID")

# A projection cannot be changed, and tables of earlier releases lack these: the worker then
# learns them from the claim.
OPTIONAL_ATTRIBUTES: Final = frozenset({"Rescues"})
TABLES: Final = (CONNECTIONS, REQUESTS, SUBSCRIPTIONS, WORKERS)
