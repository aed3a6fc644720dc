"""Prepares the claimed request of a test's run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from streamer_store import AsyncRequest, Claim, RequestStatus, Stores
from streamer_worker.handlers.definition import Handler
from streamer_worker.testing.arguments import Payload, payload_of

_REQUEST_ID: Final = "request-1"


async def claimed_request(
    stores: Stores,
    handler: Handler,
    payload: Payload | None,
    attempt: int,
    fields: Mapping[str, Any],
) -> Claim:
    """Enqueue and claim a request of the handler, with these fields, for this attempt.

    Raises TypeError for a payload that is not one, ValidationError for invalid fields.
    """
    defaults: dict[str, Any] = {
        "request_id": _REQUEST_ID,
        "connection_id": "connection-1",
        "max_retries": 3,
    }
    request = AsyncRequest(
        action=handler.action,
        payload=payload_of(payload),
        retry_count=attempt - 1,
        **defaults | dict(fields),
    )
    await stores.requests.enqueue(request)
    page = await stores.requests.entries(RequestStatus.PENDING, limit=1)
    return await stores.requests.claim(page.candidates[0], worker_id="worker-1")
