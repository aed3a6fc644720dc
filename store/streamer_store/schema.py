"""Tables, keys, indexes and projections (pure).

The indexes of requests project few attributes, so that a write of progress changes no index, and
a small request costs 9 write units from `enqueue` to its outcome, not about twice that.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

TTL_ATTRIBUTE: Final = "TTL"
REQUEST_TTL: Final = timedelta(days=7)
"""How long a request is kept after its last change of status."""
OTHER_TTL: Final = timedelta(hours=24)
"""How long connections, subscriptions and workers' rows are kept after they were renewed."""


@dataclass(frozen=True, slots=True)
class Index:
    """A global secondary index.

    - `non_key_attributes`: the attributes it projects besides the keys. None projects all.
    - `optional`: the tables of earlier releases lack it, and the worker works without it.
    """

    name: str
    hash_key: str
    range_key: str | None = None
    non_key_attributes: tuple[str, ...] | None = None
    optional: bool = False

    @property
    def projection_type(self) -> str:
        if self.non_key_attributes is None:
            return "ALL"
        return "INCLUDE" if self.non_key_attributes else "KEYS_ONLY"

    @property
    def key_names(self) -> tuple[str, ...]:
        return (self.hash_key,) if self.range_key is None else (self.hash_key, self.range_key)


@dataclass(frozen=True, slots=True, eq=False)  # each is one object, and a key of many dicts
class Table:
    """A table. Its key is text."""

    name: str
    """The name without the prefix of the deployment. A deployment may give a table another."""
    hash_key: str
    indexes: tuple[Index, ...] = ()

    def index(self, name: str) -> Index:
        """Return the index of this name."""
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
        Index(
            "DueIndex",
            "DueLane",
            "DueAt",
            (
                *("Status", "CreatedAt", "Action", "TenantID", "RetryAfter", "WorkerID"),
                *("Version", "Rescues", "Priority"),
            ),
            optional=True,
        ),
    ),
)
SUBSCRIPTIONS: Final = Table(
    "subscriptions",
    "SubscriptionID",
    (Index("ConnectionIndex", "ConnectionID"), Index("RequestIndex", "RequestID")),
)
WORKERS: Final = Table("workers", "WorkerID")

OPTIONAL_ATTRIBUTES: Final = frozenset({"Rescues"})
"""Projected attributes that the indexes of tables from earlier releases may lack.

A projection cannot be changed. The worker then reads the attributes from the claim.
"""
TABLES: Final = (CONNECTIONS, REQUESTS, SUBSCRIPTIONS, WORKERS)
