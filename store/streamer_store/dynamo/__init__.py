"""I/O with DynamoDB, and nothing else. Botocore's exceptions end here."""

from streamer_store.dynamo.opening import open_stores

__all__ = ["open_stores"]
