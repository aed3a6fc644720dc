"""Taking requests from workers that were lost."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from contract.request_steps import candidate, claimed, put_raw, raw, reclaimed
from streamer_store import (
    AsyncRequest,
    Candidate,
    Claim,
    ClaimLost,
    ConcurrentModification,
    NotFound,
    RequestStatus,
    Stores,
    WorkerLoss,
    codec,
)
from support import START, ManualClock

if TYPE_CHECKING:
    from streamer_store.values import Item

pytestmark = pytest.mark.anyio
GONE: dict[str, Any] = {"error": "worker w1 is gone", "code": "WORKER_LOST"}


async def running(stores: Stores) -> Candidate:
    return codec.candidate(await raw(stores))


async def test_a_rescue_without_a_loss_counts_as_an_attempt(stores: Stores) -> None:
    """The request is due at once, and writes of the former holder are refused."""
    claim = await claimed(stores)
    status = await stores.requests.rescue(await running(stores), **GONE)
    assert status is RequestStatus.RETRYING
    request = await stores.requests.get("r1")
    assert (request.retry_count, request.retry_after, request.worker_id) == (1, START, None)
    with pytest.raises(ClaimLost):
        await stores.requests.complete(claim, {})
    await reclaimed(stores, worker_id="w2")


async def test_a_rescue_past_max_retries_fails(stores: Stores) -> None:
    """A rescue fails a request that has no retries left."""
    await claimed(stores, max_retries=0)
    status = await stores.requests.rescue(await running(stores), **GONE)
    assert status is RequestStatus.FAILED
    request = await stores.requests.get("r1")
    assert (request.error_code, request.worker_id) == ("WORKER_LOST", "w1")


async def test_a_rescue_of_a_settled_request_is_refused(stores: Stores) -> None:
    """The outcome is unchanged. A deleted request raises NotFound."""
    claim = await claimed(stores)
    seen = await running(stores)
    await stores.requests.complete(claim, {})
    before = await raw(stores)
    with pytest.raises(ConcurrentModification):
        await stores.requests.rescue(seen, **GONE)
    assert await raw(stores) == before
    await stores.requests.delete("r1")
    with pytest.raises(NotFound):
        await stores.requests.rescue(seen, **GONE)


async def test_the_next_claim_is_not_rescued(stores: Stores) -> None:
    """A request that is PROCESSING under another Version is not taken."""
    claim = await claimed(stores)
    seen = await running(stores)
    await stores.requests.release(claim)
    again = await reclaimed(stores, worker_id="w2")
    with pytest.raises(ConcurrentModification):
        await stores.requests.rescue(seen, **GONE)
    await stores.requests.complete(again, {})


async def test_a_waiting_candidate_is_not_rescued(stores: Stores) -> None:
    """A consumer that writes no Version may have started the request since. Proves RESCUE-3."""
    item: Item = {
        "RequestID": {"S": "r1"},
        "Status": {"S": "PROCESSING"},
        "CreatedAt": {"S": "2026-01-01T00:00:00Z"},
        "Action": {"S": "echo"},
    }
    await put_raw(stores, item)
    seen = Candidate(request_id="r1", status=RequestStatus.PENDING)
    with pytest.raises(ConcurrentModification):
        await stores.requests.rescue(seen, **GONE)
    assert await raw(stores) == item


@pytest.mark.parametrize("version", [None, {"S": ""}, {"NULL": True}, {"S": "v1"}])
async def test_a_rescue_requires_the_version_seen(
    stores: Stores, version: dict[str, str] | None
) -> None:
    """It also works for a Version that is absent, empty or null."""
    item: dict[str, dict[str, str]] = {
        "RequestID": {"S": "r1"},
        "Status": {"S": "PROCESSING"},
        "CreatedAt": {"S": "2026-01-01T00:00:00Z"},
        "Action": {"S": "echo"},
    }
    await put_raw(stores, item if version is None else {**item, "Version": version})
    assert await stores.requests.rescue(await running(stores), **GONE) is RequestStatus.RETRYING


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RetryCount", {"S": "many"}),
        ("RetryCount", {"N": "1E+38"}),
        ("Version", {"N": "5"}),
        ("Action", None),
        ("Rescues", {"N": "2.5"}),
        ("Rescues", {"N": "-1"}),
        ("Solo", {"N": "1E+38"}),
    ],
)
async def test_a_rescue_fails_an_undecodable_request(
    stores: Stores, name: str, value: dict[str, str] | None
) -> None:
    """It ends with INVALID_REQUEST and an error that names the attribute."""
    item: dict[str, dict[str, str] | None] = {
        "RequestID": {"S": "r1"},
        "Status": {"S": "PROCESSING"},
        "CreatedAt": {"S": "2026-01-01T00:00:00Z"},
        "Action": {"S": "echo"},
        "WorkerID": {"S": "w1"},
        name: value,
    }
    await put_raw(stores, {key: content for key, content in item.items() if content is not None})
    seen = await running(stores)
    assert await stores.requests.rescue(seen, **GONE) is RequestStatus.FAILED
    failed = await raw(stores)
    assert failed["Status"] == {"S": "FAILED"}
    assert failed["ErrorCode"] == {"S": "INVALID_REQUEST"}
    assert name in failed["Error"]["S"]
    assert failed["WorkerID"] == {"S": "w1"}
    with pytest.raises(ConcurrentModification):
        await stores.requests.rescue(seen, **GONE)


LOSS = WorkerLoss(last_seen=START + timedelta(seconds=10))


async def lose(stores: Stores, **loss: Any) -> RequestStatus:
    """Rescue r1 from a worker that was lost."""
    seen = await running(stores)
    return await stores.requests.rescue(seen, **GONE, loss=WorkerLoss(**loss))


async def suspect(stores: Stores) -> Claim:
    """Return the claim of a request in probation, which has met crashes before."""
    await stores.requests.enqueue(AsyncRequest(action="echo", request_id="r1", rescues=3, solo=2))
    return await stores.requests.claim(await candidate(stores, "r1"), worker_id="w1", alone=True)


async def test_the_loss_of_a_worker_uses_no_attempt(stores: Stores) -> None:
    """It adds 1 to Rescues, the request waits up to 2 s, and the index has the count.

    Proves RESCUE-4.
    """
    claim = await claimed(stores, retry_count=3)
    seen = await running(stores)
    assert await stores.requests.rescue(seen, **GONE, loss=LOSS) is RequestStatus.RETRYING
    request = await stores.requests.get("r1")
    assert (request.retry_count, request.rescues, request.solo) == (3, 1, 0)
    assert request.retry_after is not None
    assert START <= request.retry_after <= START + timedelta(seconds=2)
    assert (request.error_code, request.worker_id) == ("WORKER_LOST", None)
    assert (await candidate(stores, "r1")).rescues == 1
    with pytest.raises(ClaimLost):
        await stores.requests.complete(claim, {})


async def test_a_request_without_retries_is_not_started_again_after_a_crash(
    stores: Stores,
) -> None:
    """With MaxRetries 0 a loss fails the request."""
    await claimed(stores, max_retries=0)
    assert await lose(stores) is RequestStatus.FAILED
    request = await stores.requests.get("r1")
    assert (request.error_code, request.retry_after) == ("WORKER_LOST", None)


async def test_four_losses_in_probation_fail_a_suspect(stores: Stores, clock: ManualClock) -> None:
    """A loss outside of probation sets Solo to 0."""
    await claimed(stores, max_retries=1)
    solo = []
    for alone in (False, False, True, False, True, True, True, True):
        status = await lose(stores)
        if status is RequestStatus.FAILED:
            break
        solo.append((await stores.requests.get("r1")).solo)
        clock.advance(900)
        seen = await candidate(stores, "r1")
        await stores.requests.claim(seen, worker_id="w2", alone=alone)
    assert solo == [0, 0, 0, 1, 0, 1, 2, 3]
    assert await lose(stores) is RequestStatus.FAILED
    request = await stores.requests.get("r1")
    assert (request.rescues, request.solo, request.retry_count) == (9, 4, 0)
    assert (request.error, request.error_code) == (GONE["error"], "WORKER_LOST")


@pytest.mark.parametrize("after", ["retry", "redrive", "rescue"])
async def test_rescues_are_reset_by_retries_that_count_and_redrives(
    stores: Stores, after: str
) -> None:
    """Rescues, Solo and Alone belong to one attempt."""
    claim = await suspect(stores)
    if after == "retry":
        await stores.requests.retry(claim, timedelta(0), error="no", code="BAD")
    elif after == "rescue":
        await stores.requests.rescue(await running(stores), **GONE)
    else:
        await stores.requests.fail(claim, "no", "BAD")
        await stores.requests.redrive("r1")
    request = await stores.requests.get("r1")
    assert (request.rescues, request.solo, request.alone) == (0, 0, None)
    assert (await candidate(stores, "r1")).rescues == 0


@pytest.mark.parametrize("after", ["snooze", "release"])
async def test_snoozes_and_releases_keep_rescues(stores: Stores, after: str) -> None:
    """Otherwise a suspect could avoid its end by snoozing."""
    claim = await suspect(stores)
    if after == "snooze":
        await stores.requests.retry(claim, timedelta(0), counts=False)
    else:
        await stores.requests.release(claim)
    request = await stores.requests.get("r1")
    assert (request.rescues, request.solo) == (3, 2)
    assert (await candidate(stores, "r1")).rescues == 3
