"""The contract of what an operator can do to a request."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol

from streamer_store.models import AsyncRequest
from streamer_store.transitions import RequestStatus


class RequestActions(Protocol):
    """Changes requests without a claim, each on the condition that it has not changed meanwhile."""

    async def cancel(self, request_id: str) -> AsyncRequest:
        """Make a waiting or running request CANCELLED, and notify its worker.

        If it is CANCELLED already, the worker is notified again. Returns the request.
        Raises NotFound; RequestNotPending if it is COMPLETED or FAILED; Undecodable;
        ConcurrentModification if it changed between read and write ten times.
        """
        ...

    async def redrive(self, request_id: str) -> AsyncRequest:
        """Make a FAILED or CANCELLED request PENDING, with RetryCount 0. Its checkpoint is kept.

        At low priority it becomes SCHEDULED and is due. Returns the request. It is CANCELLED if
        it was cancelled again at the same time.
        Raises NotFound; RequestNotPending in any other status; Undecodable;
        ConcurrentModification as `cancel` does.
        """
        ...

    async def reschedule(
        self,
        request_id: str,
        *,
        run_at: datetime | None = None,
        delay: timedelta | None = None,
        beyond_a_year: bool = False,
    ) -> AsyncRequest:
        """Change when a waiting request may run. A time that has passed means at once.

        For `run_at`, `delay` and `beyond_a_year` see `enqueue`; one of the first two is required.
        A PENDING request becomes SCHEDULED. RETRYING and SCHEDULED keep their status.

        Returns the request. It is CANCELLED if it was cancelled again at the same time.
        Raises NotFound; RequestNotPending if it does not wait; ValidationError; Undecodable;
        ConcurrentModification as `cancel` does.
        """
        ...

    async def update_status(
        self, request_id: str, status: RequestStatus, message: str | None = None
    ) -> AsyncRequest:
        """Change the status by hand: waiting to CANCELLED, or FAILED or CANCELLED to PENDING.

        `message` becomes ProgressMessage. Returns the request. Raises the errors of `cancel`.
        RequestNotPending means that the request is in another status, or that `status` needs a
        claim. In the second case the error's `status` is None if there is no request.
        """
        ...
