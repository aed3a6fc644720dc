"""The stores on DynamoDB."""

from streamer_store.dynamo.calls import CallEnded, Capacity, TryFailed
from streamer_store.dynamo.opening import open_stores

__all__ = ["CallEnded", "Capacity", "TryFailed", "open_stores"]
