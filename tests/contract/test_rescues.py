"""Taking requests from workers that are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from going import claimed, put_raw, raw, reclaimed

from streamer_store import (
    Candidate,
    ClaimLost,
    ConcurrentModification,
    NotFound,
    RequestStatus,
    Stores,
    codec,
)
from support import START

if TYPE_CHECKING:
    from streamer_store.values import Item

pytestmark = pytest.mark.anyio
GONE = {"error": "worker w1 is gone", "code": "WORKER_LOST"}


async def running(stores: Stores) -> Candidate:
    return codec.candidate(await raw(stores))


async def test_a_rescue_counts_as_an_attempt(stores: Stores) -> None:
    """It is due at once, and the zombie's writes are refused."""
    claim = await claimed(stores)
    became = await stores.requests.rescue(await running(stores), **GONE)
    assert became is RequestStatus.RETRYING
    request = await stores.requests.get("r1")
    assert (request.retry_count, request.retry_after, request.worker_id) == (1, START, None)
    with pytest.raises(ClaimLost):
        await stores.requests.complete(claim, {})
    await reclaimed(stores, worker_id="w2")


async def test_a_rescue_past_max_retries_fails(stores: Stores) -> None:
    """A request that kills its workers comes to an end."""
    await claimed(stores, max_retries=0)
    became = await stores.requests.rescue(await running(stores), **GONE)
    assert became is RequestStatus.FAILED
    request = await stores.requests.get("r1")
    assert (request.error_code, request.worker_id) == ("WORKER_LOST", "w1")


async def test_a_rescue_comes_too_late(stores: Stores) -> None:
    """What was settled meanwhile stays; what is gone is not found."""
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
    """PROCESSING again, but another Version: that is somebody at work."""
    claim = await claimed(stores)
    seen = await running(stores)
    await stores.requests.release(claim)
    again = await reclaimed(stores, worker_id="w2")
    with pytest.raises(ConcurrentModification):
        await stores.requests.rescue(seen, **GONE)
    await stores.requests.complete(again, {})


async def test_what_was_seen_waiting_is_not_rescued(stores: Stores) -> None:
    """A consumer that knows no Versions may have begun since."""
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
async def test_a_rescue_asks_for_the_version_as_seen(
    stores: Stores, version: dict[str, str] | None
) -> None:
    """Absent, empty or null: a rescue always finds what it saw."""
    item: dict[str, dict[str, str]] = {
        "RequestID": {"S": "r1"},
        "Status": {"S": "PROCESSING"},
        "CreatedAt": {"S": "2026-01-01T00:00:00Z"},
        "Action": {"S": "echo"},
    }
    await put_raw(stores, item if version is None else {**item, "Version": version})
    assert await stores.requests.rescue(await running(stores), **GONE) is RequestStatus.RETRYING


@pytest.mark.parametrize(
    ("name", "value"), [("RetryCount", {"S": "many"}), ("Version", {"N": "5"}), ("Action", None)]
)
async def test_a_running_request_that_does_not_read_is_failed(
    stores: Stores, name: str, value: dict[str, str] | None
) -> None:
    """Nobody could run it again; it ends with INVALID_REQUEST and says what is wrong."""
    item: dict[str, dict[str, str] | None] = {
        "RequestID": {"S": "r1"},
        "Status": {"S": "PROCESSING"},
        "CreatedAt": {"S": "2026-01-01T00:00:00Z"},
        "Action": {"S": "echo"},
        "WorkerID": {"S": "w1"},
        name: value,
    }
    await put_raw(stores, {key: each for key, each in item.items() if each is not None})
    seen = await running(stores)
    assert await stores.requests.rescue(seen, **GONE) is RequestStatus.FAILED
    failed = await raw(stores)
    assert failed["Status"] == {"S": "FAILED"}
    assert failed["ErrorCode"] == {"S": "INVALID_REQUEST"}
    assert name in failed["Error"]["S"]
    assert failed["WorkerID"] == {"S": "w1"}
    with pytest.raises(ConcurrentModification):
        await stores.requests.rescue(seen, **GONE)
