"""Requests whose items have no room left can always be failed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from contract.request_steps import candidate, put_raw, raw, reclaimed
from streamer_store import (
    AsyncRequest,
    Attempt,
    ItemTooLarge,
    Progress,
    RequestStatus,
    Stores,
    Undecodable,
    codec,
)
from streamer_store.attempts import attempts_value
from streamer_store.values import MAX_ITEM_BYTES, item_size
from support import START

if TYPE_CHECKING:
    from streamer_store.values import Item

# Moto measures other sizes, and applies half of an update that it refuses.
ENGINES = ["memory", pytest.param("local", marks=pytest.mark.local)]
pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("stores", ENGINES, indirect=True)]
LEFT = [0, 1, 50, 100, 200, 300]
FREED = ["Payload", "Checkpoint", "ProgressMessage"]


def filled(size: int, attribute: str, **more: Any) -> Item:
    """Return a request of `size` bytes as the Go store writes it: `attribute` fills it up."""
    item: dict[str, Any] = {
        "RequestID": {"S": "r1"},
        "Status": {"S": "PENDING"},
        "CreatedAt": {"S": "2026-01-01T00:00:00Z"},
        "Action": {"S": "echo"},
        "Payload": {"M": {"text": {"S": ""}}},
        **more,
    }
    item.setdefault(attribute, {"S": ""})
    text = "x" * (size - item_size(item))
    item[attribute] = {"M": {"text": {"S": text}}} if attribute == "Payload" else {"S": text}
    return item


async def ended(stores: Stores) -> tuple[str, str]:
    item = await raw(stores)
    assert item["Error"]["S"]
    assert item["Version"]["S"]
    assert codec.request(item).processing_ended is not None
    return item["Status"]["S"], item["ErrorCode"]["S"]


@pytest.mark.parametrize("attribute", FREED)
async def test_a_request_without_room_is_failed_by_its_claim(
    stores: Stores, attribute: str
) -> None:
    """A claim that does not fit into the item fails the request with ITEM_TOO_LARGE."""
    outcomes = []
    for left in LEFT:
        await put_raw(stores, filled(MAX_ITEM_BYTES - left, attribute))
        try:
            await reclaimed(stores)
        except ItemTooLarge:
            assert await ended(stores) == ("FAILED", "ITEM_TOO_LARGE")
            outcomes.append("failed")
        else:
            assert codec.request(await raw(stores)).worker_id == "w1"
            outcomes.append("claimed")
    assert outcomes == [*["failed"] * 4, *["claimed"] * 2]


async def test_the_payload_is_removed_last(stores: Stores) -> None:
    """The payload is kept if removing other attributes makes enough room."""
    await put_raw(stores, filled(MAX_ITEM_BYTES, "Checkpoint", Payload={"M": {"n": {"N": "1"}}}))
    with pytest.raises(ItemTooLarge):
        await reclaimed(stores)
    request = await stores.requests.get("r1")
    assert (request.payload, request.checkpoint) == ({"n": 1}, None)


async def test_a_full_request_that_has_changed_is_not_failed(stores: Stores) -> None:
    """It is failed only if it has not changed since it was read."""
    await put_raw(stores, filled(MAX_ITEM_BYTES, "Payload"))
    seen = await candidate(stores, "r1")
    moved = filled(MAX_ITEM_BYTES, "Payload", Version={"S": "v1"})
    await put_raw(stores, moved)
    with pytest.raises(Exception, match="has changed"):
        await stores.requests.claim(seen)
    assert await raw(stores) == moved


@pytest.mark.parametrize("attribute", FREED)
async def test_a_held_request_without_room_can_be_failed(stores: Stores, attribute: str) -> None:
    """`fail` never raises ItemTooLarge, whichever attribute fills the item."""
    await put_raw(stores, filled(1000, attribute))
    claim = await reclaimed(stores)
    held = {name: value for name, value in (await raw(stores)).items() if name not in FREED}
    for left in LEFT:
        await put_raw(stores, filled(MAX_ITEM_BYTES - left, attribute, **held))
        await stores.requests.fail(claim, "e" * 20_000, "BROKE")
        assert await ended(stores) == ("FAILED", "ITEM_TOO_LARGE")


@pytest.mark.parametrize("attribute", FREED)
async def test_a_rescue_without_room_fails_the_request(stores: Stores, attribute: str) -> None:
    """A rescue that does not fit into the item fails the request with ITEM_TOO_LARGE."""
    await put_raw(stores, filled(MAX_ITEM_BYTES, attribute, Status={"S": "PROCESSING"}))
    seen = codec.candidate(await raw(stores))
    status = await stores.requests.rescue(seen, error="gone", code="WORKER_LOST")
    assert status is RequestStatus.FAILED
    assert await ended(stores) == ("FAILED", "ITEM_TOO_LARGE")


async def test_a_full_undecodable_request_is_failed_as_undecodable(stores: Stores) -> None:
    """The error code is INVALID_REQUEST, because the producer can correct that."""
    await put_raw(stores, filled(MAX_ITEM_BYTES, "Payload", Version={"N": "5"}))
    with pytest.raises(Undecodable, match="Version"):
        await reclaimed(stores)
    assert await ended(stores) == ("FAILED", "INVALID_REQUEST")


ATTEMPT = Attempt(number=1, ended=START, outcome="failed", error="e" * 200)
ATTEMPTS = {"Attempts": attempts_value([ATTEMPT] * 4)}


async def test_a_claim_without_room_gives_up_the_attempts(stores: Stores) -> None:
    """Their list is removed, and the request runs with all that it had."""
    await put_raw(stores, filled(MAX_ITEM_BYTES, "Payload", **ATTEMPTS))
    claim = await reclaimed(stores)
    assert claim.request.attempts == ()
    assert "Attempts" not in await raw(stores)


async def test_a_held_request_gives_up_its_attempts_before_anything_else(stores: Stores) -> None:
    """A checkpoint, a result, a retry and a failure that need their room are written whole."""
    await put_raw(stores, filled(1000, "Payload", **ATTEMPTS))
    claim = await reclaimed(stores)
    assert claim.request.attempts == (ATTEMPT,) * 4
    held = {name: value for name, value in (await raw(stores)).items() if name != "Payload"}
    full = filled(MAX_ITEM_BYTES - 10, "Payload", **held)
    text = "x" * 500

    async def restored() -> AsyncRequest:
        request = await stores.requests.get("r1")
        assert request.attempts == ()
        assert codec.request_item(request)["Payload"] == full["Payload"]
        await put_raw(stores, full)
        return request

    await put_raw(stores, full)
    await stores.requests.checkpoint(claim, text)
    assert (await restored()).checkpoint == text
    await stores.requests.update_progress(claim, message=text)
    assert (await restored()).progress_message == text
    await stores.requests.retry(claim, timedelta(), error=text, code="BROKE")
    request = await restored()
    assert (request.status, request.error, request.error_code) == ("RETRYING", text, "BROKE")
    await stores.requests.fail(claim, text, "BROKE")
    request = await restored()
    assert (request.status, request.error, request.error_code) == ("FAILED", text, "BROKE")
    await stores.requests.complete(claim, {"text": text}, progress=Progress(message="done"))
    request = await restored()
    assert (request.result, request.progress_message) == ({"text": text}, "done")
    await stores.requests.rescue(codec.candidate(full), error=text, code="WORKER_LOST")
    request = await restored()
    assert (request.status, request.error) == ("RETRYING", text)
