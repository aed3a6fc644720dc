"""The contracts of the stores. `tests/contract` checks every implementation.

Errors that every method can raise, beside those in its docstring:

- StoreUnavailable: DynamoDB did not answer. A write may or may not have taken effect.
- AccessDenied: the credentials or their policy do not allow the call.
- TableMissing: the table or the index does not exist.
- ValidationError: an argument is wrong. An id must be a string that is not empty, a `limit` a
  whole number of 1 or more (None, where allowed, means no limit), a `status` a RequestStatus.

A method that returns an iterator raises when the iteration starts. Requests are listed in the
order of the text of CreatedAt, as the index sorts it: text with an offset other than UTC sorts
by its local time.
"""

from __future__ import annotations

from streamer_store.protocols.bulk import BulkRequests
from streamer_store.protocols.connections import ConnectionStore, StaleSweep
from streamer_store.protocols.pauses import Pauses
from streamer_store.protocols.rate_limits import PermitStore
from streamer_store.protocols.requests import CandidatePage, Depth, RequestQueue
from streamer_store.protocols.schedules import ScheduleStore
from streamer_store.protocols.subscriptions import SubscriptionStore
from streamer_store.protocols.workers import FleetRows, WorkerRegistry

__all__ = [
    "BulkRequests",
    "CandidatePage",
    "ConnectionStore",
    "Depth",
    "FleetRows",
    "Pauses",
    "PermitStore",
    "RequestQueue",
    "ScheduleStore",
    "StaleSweep",
    "SubscriptionStore",
    "WorkerRegistry",
]
