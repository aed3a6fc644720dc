"""What operators do to requests: cancel, redrive, update_status."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from contract.request_steps import candidate, claimed, put_raw, raw, reclaimed
from streamer_store import (
    AsyncRequest,
    Cancelled,
    NotFound,
    RequestNotPending,
    RequestStatus,
    Stores,
    ValidationError,
    WorkerRow,
)
from streamer_store.versions import cancel_version
from support import START

pytestmark = pytest.mark.anyio


async def _mailbox(stores: Stores) -> frozenset[str]:
    (row,) = await stores.workers.list()
    return row.cancel


async def test_a_waiting_request_is_cancelled(stores: Stores) -> None:
    """PENDING and RETRYING requests become CANCELLED and cannot be claimed."""
    await stores.requests.enqueue(AsyncRequest(action="echo", request_id="pending"))
    await stores.requests.retry(await claimed(stores, "retrying"), timedelta(0))
    for request_id in ("pending", "retrying"):
        cancelled = await stores.requests.cancel(request_id)
        assert cancelled.status is RequestStatus.CANCELLED
        assert cancelled == await stores.requests.get(request_id)
        assert cancelled.retry_after is None
    assert await stores.requests.dequeue(10) == []


async def test_cancelling_a_running_request_notifies_its_worker(stores: Stores) -> None:
    """The Version is in the worker's mailbox, and writes of the claim raise Cancelled."""
    await stores.workers.register(WorkerRow(worker_id="w1", started_at=START))
    claim = await claimed(stores)
    cancelled = await stores.requests.cancel("r1")
    assert cancelled.worker_id == "w1"
    assert cancelled.version == cancel_version(claim.version)
    assert await _mailbox(stores) == {cancelled.version}
    with pytest.raises(Cancelled):
        await stores.requests.update_progress(claim, 0.5)
    with pytest.raises(Cancelled):
        await stores.requests.complete(claim, {})


async def test_cancelling_again_notifies_the_worker_again(stores: Stores) -> None:
    """A second cancel puts the same Version into the mailbox again."""
    await stores.workers.register(WorkerRow(worker_id="w1", started_at=START))
    await claimed(stores)
    cancelled = await stores.requests.cancel("r1")
    assert cancelled.version is not None
    await stores.workers.beat(
        "w1", in_flight=0, draining=False, sweeps=0, handled=[cancelled.version]
    )
    assert await _mailbox(stores) == frozenset()
    assert await stores.requests.cancel("r1") == cancelled
    assert await _mailbox(stores) == {cancelled.version}


async def test_cancelling_creates_no_row_for_a_dead_worker(stores: Stores) -> None:
    """No mailbox is written for a worker without a row."""
    await claimed(stores)
    await stores.requests.cancel("r1")
    assert await stores.workers.list() == []


async def test_a_completed_request_is_not_cancelled(stores: Stores) -> None:
    """It raises RequestNotPending and changes nothing. A missing request raises NotFound."""
    claim = await claimed(stores)
    await stores.requests.complete(claim, {})
    before = await raw(stores)
    with pytest.raises(RequestNotPending, match="COMPLETED"):
        await stores.requests.cancel("r1")
    assert await raw(stores) == before
    with pytest.raises(NotFound):
        await stores.requests.cancel("nobody")


async def test_a_redrive_resets_the_request(stores: Stores) -> None:
    """It is PENDING with RetryCount 0 and without error, worker and progress."""
    claim = await claimed(stores, payload={"n": 1})
    await stores.requests.update_progress(claim, 0.5, "half", {"rows": 1})
    await stores.requests.fail(claim, "broke", "BROKE")
    redriven = await stores.requests.redrive("r1")
    assert redriven == await stores.requests.get("r1")
    assert (redriven.status, redriven.retry_count) == (RequestStatus.PENDING, 0)
    assert (redriven.error, redriven.error_code, redriven.worker_id) == (None, None, None)
    assert (redriven.progress, redriven.progress_message) == (0.0, None)
    assert redriven.payload == {"n": 1}
    again = await reclaimed(stores)
    assert again.version not in {claim.version, redriven.version}


async def test_a_cancelled_request_can_be_redriven(stores: Stores) -> None:
    """The new claim of a cancelled and redriven request can be completed."""
    old = await claimed(stores)
    await stores.requests.cancel("r1")
    await stores.requests.redrive("r1")
    new = await reclaimed(stores)
    assert cancel_version(old.version) != cancel_version(new.version)
    await stores.requests.complete(new, {})


async def test_only_failed_or_cancelled_requests_are_redriven(stores: Stores) -> None:
    """Other statuses raise RequestNotPending. A missing request raises NotFound."""
    await stores.requests.enqueue(AsyncRequest(action="echo", request_id="pending"))
    claim = await claimed(stores, "running")
    for request_id in ("pending", "running"):
        with pytest.raises(RequestNotPending):
            await stores.requests.redrive(request_id)
    await stores.requests.complete(claim, {})
    with pytest.raises(RequestNotPending, match="COMPLETED"):
        await stores.requests.redrive("running")
    with pytest.raises(NotFound):
        await stores.requests.redrive("nobody")


async def test_update_status_cancels_and_redrives(stores: Stores) -> None:
    """A waiting request becomes CANCELLED, an ended one PENDING. The message is stored."""
    await stores.requests.enqueue(AsyncRequest(action="echo", request_id="r1"))
    cancelled = await stores.requests.update_status("r1", RequestStatus.CANCELLED, "not needed")
    assert (cancelled.status, cancelled.progress_message) == (
        RequestStatus.CANCELLED,
        "not needed",
    )
    again = await stores.requests.update_status("r1", RequestStatus.PENDING, "needed")
    assert (again.status, again.progress_message) == (RequestStatus.PENDING, "needed")


async def test_update_status_neither_enters_nor_leaves_processing(stores: Stores) -> None:
    """A status that only a claim may set or leave raises RequestNotPending."""
    await stores.requests.enqueue(AsyncRequest(action="echo", request_id="waiting"))
    claim = await claimed(stores, "running")
    for status in RequestStatus:
        with pytest.raises(RequestNotPending):
            await stores.requests.update_status("running", status)
    for status in set(RequestStatus) - {RequestStatus.CANCELLED}:
        with pytest.raises(RequestNotPending):
            await stores.requests.update_status("waiting", status)
    await stores.requests.complete(claim, {})
    with pytest.raises(ValidationError, match="status"):
        await stores.requests.update_status("waiting", "ASLEEP")  # type: ignore[arg-type]


async def test_the_error_for_a_missing_request_has_the_operation(stores: Stores) -> None:
    """It is the method that was called."""
    for status in (RequestStatus.CANCELLED, RequestStatus.PENDING):
        with pytest.raises(NotFound) as caught:
            await stores.requests.update_status("nobody", status)
        assert caught.value.operation == "update_status"
    completed = stores.requests.update_status("nobody", RequestStatus.COMPLETED)
    assert await _refused(completed) == ("update_status", None)
    with pytest.raises(NotFound) as caught:
        await stores.requests.cancel("nobody")
    assert caught.value.operation == "cancel"
    with pytest.raises(NotFound) as caught:
        await stores.requests.redrive("nobody")
    assert caught.value.operation == "redrive"


async def test_request_not_pending_has_the_status_of_the_request(stores: Stores) -> None:
    """Every method that raises RequestNotPending sets its status."""
    await stores.requests.enqueue(AsyncRequest(action="echo", request_id="waiting"))
    seen = await candidate(stores, "waiting")
    claim = await reclaimed(stores, "waiting")
    running = RequestStatus.PROCESSING
    assert await _refused(stores.requests.claim(seen)) == ("claim", running)
    assert await _refused(stores.requests.redrive("waiting")) == ("redrive", running)
    update = stores.requests.update_status
    for status in RequestStatus:
        assert await _refused(update("waiting", status)) == ("update_status", running)
    await stores.requests.retry(claim, timedelta(hours=1))
    later = await candidate(stores, "waiting")
    assert await _refused(stores.requests.claim(later)) == ("claim", RequestStatus.RETRYING)
    ended = replace(later, status=RequestStatus.FAILED)
    assert await _refused(stores.requests.claim(ended)) == ("claim", RequestStatus.FAILED)
    claim = await claimed(stores, "done")
    await stores.requests.complete(claim)
    assert await _refused(stores.requests.cancel("done")) == ("cancel", RequestStatus.COMPLETED)


async def test_an_unknown_status_is_only_in_the_message(stores: Stores) -> None:
    """The field of the error is then None."""
    await put_raw(stores, {"RequestID": {"S": "odd"}, "Status": {"S": "asleep"}})
    with pytest.raises(RequestNotPending, match="the request is asleep") as caught:
        await stores.requests.cancel("odd")
    assert caught.value.status is None


async def _refused(call: Awaitable[Any]) -> tuple[str, RequestStatus | None]:
    with pytest.raises(RequestNotPending) as caught:
        await call
    return caught.value.operation, caught.value.status
