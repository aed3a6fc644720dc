"""Streamer's storage layer: connections, requests, subscriptions and workers in DynamoDB."""

from streamer_store.bulk_results import BulkResult, BulkSummary, SomeRefused
from streamer_store.cache import Cache, CacheUsed
from streamer_store.clock import Clock, SystemClock
from streamer_store.disconnecting import Disconnected
from streamer_store.dynamo import CallEnded, Capacity, TryFailed, open_stores
from streamer_store.engine import Difference
from streamer_store.errors import (
    AccessDenied,
    AlreadyExists,
    Cancelled,
    ClaimLost,
    ConcurrentModification,
    InvalidInput,
    ItemTooLarge,
    NotFound,
    RequestNotPending,
    StoreError,
    StoreUnavailable,
    TableMissing,
    Undecodable,
    ValidationError,
    is_already_exists,
    is_cancelled,
    is_claim_lost,
    is_concurrent_modification,
    is_invalid_input,
    is_not_found,
    is_request_not_pending,
    is_unavailable,
)
from streamer_store.lanes import Lane, Priority
from streamer_store.models import (
    AsyncRequest,
    Candidate,
    Claim,
    Connection,
    EventType,
    Progress,
    Subscription,
)
from streamer_store.protocols import (
    BulkRequests,
    CandidatePage,
    ConnectionStore,
    Depth,
    RequestQueue,
    StaleSweep,
    SubscriptionStore,
    WorkerRegistry,
)
from streamer_store.rescues import Rescued, WorkerLoss
from streamer_store.retention import Retention
from streamer_store.stores import Stores, memory_stores
from streamer_store.transitions import RequestStatus
from streamer_store.worker_row import WorkerRow

__all__ = [
    "AccessDenied",
    "AlreadyExists",
    "AsyncRequest",
    "BulkRequests",
    "BulkResult",
    "BulkSummary",
    "Cache",
    "CacheUsed",
    "CallEnded",
    "Cancelled",
    "Candidate",
    "CandidatePage",
    "Capacity",
    "Claim",
    "ClaimLost",
    "Clock",
    "ConcurrentModification",
    "Connection",
    "ConnectionStore",
    "Depth",
    "Difference",
    "Disconnected",
    "EventType",
    "InvalidInput",
    "ItemTooLarge",
    "Lane",
    "NotFound",
    "Priority",
    "Progress",
    "RequestNotPending",
    "RequestQueue",
    "RequestStatus",
    "Rescued",
    "Retention",
    "SomeRefused",
    "StaleSweep",
    "StoreError",
    "StoreUnavailable",
    "Stores",
    "Subscription",
    "SubscriptionStore",
    "SystemClock",
    "TableMissing",
    "TryFailed",
    "Undecodable",
    "ValidationError",
    "WorkerLoss",
    "WorkerRegistry",
    "WorkerRow",
    "is_already_exists",
    "is_cancelled",
    "is_claim_lost",
    "is_concurrent_modification",
    "is_invalid_input",
    "is_not_found",
    "is_request_not_pending",
    "is_unavailable",
    "memory_stores",
    "open_stores",
]
