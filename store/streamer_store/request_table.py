"""The table of requests, as the parts of RequestStore share it."""

from __future__ import annotations

from streamer_store import codec
from streamer_store.decoding import ItemDecoder, Location, Report
from streamer_store.engine import Engine
from streamer_store.errors import NotFound, RequestNotPending
from streamer_store.models import AsyncRequest
from streamer_store.reserved_ids import is_control_item
from streamer_store.retention import Retention
from streamer_store.schema import REQUESTS
from streamer_store.transitions import RequestStatus
from streamer_store.validation import require_text
from streamer_store.values import Item


class RequestTable:
    """Reads single requests and creates the errors that name this table."""

    def __init__(self, *, engine: Engine, report: Report, retention: Retention) -> None:
        self.engine = engine
        self.retention = retention
        self.decoder: ItemDecoder[AsyncRequest] = ItemDecoder(
            codec.request, table=engine.table_name(REQUESTS), report=report
        )

    async def get_item(self, operation: str, request_id: str) -> Item:
        """Return the item, read consistently. Raises NotFound; ValidationError."""
        require_text("request_id", request_id)
        item = await self.engine.get(REQUESTS, request_id)
        if item is None or is_control_item(item):
            raise self.not_found(operation, request_id)
        return item

    def location(self, operation: str, request_id: str) -> Location:
        """Return the arguments that say where an error happened."""
        return self.decoder.location(operation, request_id)

    def not_found(self, operation: str, request_id: str) -> NotFound:
        """Return the error for a request that does not exist."""
        return NotFound("no such request", **self.location(operation, request_id))

    def not_pending(
        self, operation: str, request_id: str, status: str, message: str | None = None
    ) -> RequestNotPending:
        """Return the error for a request whose status does not allow the operation.

        `status`: the text of its Status, which may be unknown. `message`: None says the status.
        """
        known = RequestStatus(status) if status in set(RequestStatus) else None
        return RequestNotPending(
            message or f"the request is {status}",
            status=known,
            **self.location(operation, request_id),
        )
