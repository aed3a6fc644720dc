"""The poller: finding waiting requests, claiming them, and handing them over."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import anyio
import pytest

from streamer_store import AsyncRequest, RequestStatus, StoreUnavailable
from streamer_store.schema import REQUESTS
from streamer_worker.events import ClaimTried, ItemUndecodable, Polled
from streamer_worker.intake.poller import PollCounts
from unit.worker.benches import PollBench, enqueue
from unit.worker.faulty_engine import moves_to
from unit.worker.harness import World

pytestmark = pytest.mark.anyio


async def retrying(world: World, *, after: float) -> AsyncRequest:
    """Return a request that failed once and waits for its retry."""
    claim = await world.claim(created_at=world.clock.now() - timedelta(hours=1))
    await world.stores.requests.retry(claim, timedelta(seconds=after), error="x", code="X")
    return await world.get(claim)


async def claimed_within(bench: PollBench, request_id: str, *, polls: int) -> bool:
    for _ in range(polls):
        if request_id in await bench.poll():
            return True
    return False


async def test_waiting_requests_are_claimed_and_handed_over(world: World, bench: PollBench) -> None:
    """They are PROCESSING under this worker's id, and each has a slot."""
    ids = await enqueue(world, 3)
    assert await bench.poller.step() == PollCounts(candidates=3, claimed=3)
    assert bench.slots.used == 3
    assert sorted(bench.handed_over()) == sorted(ids)
    stored = await world.stores.requests.get_many(ids)
    assert {(request.status, request.worker_id) for request in stored.values()} == {
        (RequestStatus.PROCESSING, "me")
    }


async def test_only_free_slots_are_filled_with_the_oldest(world: World, narrow: PollBench) -> None:
    """A worker claims only as many requests as it has free slots, the oldest first."""
    ids = await enqueue(world, 5)
    await narrow.poller.step()
    first, second = narrow.assignments()
    assert sorted([first.claim.request_id, second.claim.request_id]) == sorted(ids[:2])
    assert narrow.slots.free == 0
    narrow.slots.release(first.slot)
    await narrow.poller.step()
    assert narrow.handed_over() == [ids[2]]


async def test_without_a_free_slot_the_table_is_not_read(world: World, narrow: PollBench) -> None:
    """The next poll starts as soon as a slot is released."""
    slot = narrow.slots.take("one")
    narrow.slots.take("another")
    world.engine.calls.clear()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(narrow.poller.step)
        await anyio.wait_all_tasks_blocked()
        assert world.engine.calls == []
        narrow.slots.release(slot)
    assert world.engine.calls != []


async def test_a_retrying_request_waits_until_it_is_due(world: World, bench: PollBench) -> None:
    """Before RetryAfter the poller does not try to claim it."""
    due = await retrying(world, after=0)
    await retrying(world, after=3600)
    assert await bench.poll() == [due.request_id]
    assert [event.request_id for event in world.recorder.of(ClaimTried)] == [due.request_id]


async def test_new_requests_do_not_delay_old_retries(world: World, narrow: PollBench) -> None:
    """The age decides across both statuses, so a stream of new requests delays no retry."""
    due = await retrying(world, after=0)
    await enqueue(world, 50)
    assert due.request_id in await narrow.poll()


async def test_a_poll_is_reported_with_its_counts(world: World, bench: PollBench) -> None:
    """Polled says whether something was claimed, and how many candidates there were."""
    await enqueue(world, 2)
    await bench.poll()
    await bench.poll()
    first, second = world.recorder.of(Polled)
    assert (first.outcome, first.candidates, first.claimed) == ("claimed", 2, 2)
    assert (second.outcome, second.candidates, second.claimed) == ("empty", 0, 0)


async def test_requests_that_cannot_run_do_not_hide_others(world: World, narrow: PollBench) -> None:
    """Requests behind many pages of them are still reached."""
    head = set(await enqueue(world, 60))
    (behind,) = await enqueue(world, 1)
    world.engine.fail(
        "update", when=lambda update: update.key in head, times=10**6, error=StoreUnavailable("x")
    )
    assert await claimed_within(narrow, behind, polls=60)


async def test_lost_requests_at_the_front_are_skipped(world: World, narrow: PollBench) -> None:
    """Requests that other workers hold, and the index still shows, are skipped page after page."""
    ids = await enqueue(world, 40)
    taken = [
        await world.candidate(await world.stores.requests.get(request_id)) for request_id in ids
    ]
    (behind,) = await enqueue(world, 1)
    lagging = world.engine.inner
    stale = dict(lagging._tables["requests"])
    for candidate in taken:
        await world.stores.requests.claim(candidate)
    fresh = dict(lagging._tables["requests"])

    async def query(query: Any) -> Any:
        lagging._tables["requests"] = stale
        try:
            return await type(lagging).query(lagging, query)
        finally:
            lagging._tables["requests"] = fresh

    world.engine.query = query  # type: ignore[method-assign]
    assert await claimed_within(narrow, behind, polls=60)
    tried = [event.request_id for event in world.recorder.of(ClaimTried) if event.outcome == "lost"]
    assert len(tried) == len(set(tried))


async def lost_once(world: World, bench: PollBench) -> AsyncRequest:
    """Return a waiting request whose claim this worker lost to one that released it again."""
    request = await world.enqueue()
    candidate = await world.candidate(request)
    fault = world.engine.hold("update", when=moves_to("PROCESSING"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.poller.step)
        await fault.wait_reached()
        claim = await world.stores.requests.claim(candidate)
        fault.let_go()
    assert [event.outcome for event in world.recorder.of(ClaimTried)] == ["lost"]
    await world.stores.requests.release(claim)
    return request


async def test_a_lost_claim_is_reported_and_releases_its_slot(
    world: World, bench: PollBench
) -> None:
    """Its outcome is "lost", not an error."""
    await lost_once(world, bench)
    assert bench.slots.used == 0
    assert world.recorder.of(ClaimTried)[0].error is None
    assert bench.handed_over() == []


async def test_a_request_that_came_back_is_tried_again(world: World, bench: PollBench) -> None:
    """Only the Version whose claim was lost is skipped, not the next one."""
    request = await lost_once(world, bench)
    assert await bench.poll() == [request.request_id]


async def stop_index(world: World) -> None:
    """Let the index show from now on what it shows now."""
    page = await world.stores.requests.entries(RequestStatus.PENDING, limit=10)

    async def lagging(status: RequestStatus, **_: Any) -> Any:
        return page if status is RequestStatus.PENDING else type(page)(candidates=[])

    world.stores.requests.entries = lagging  # type: ignore[method-assign]


async def test_a_lost_version_is_not_tried_again(world: World, bench: PollBench) -> None:
    """It costs no further writes while the index still shows it."""
    candidate = await world.candidate(await world.enqueue())
    await stop_index(world)
    await world.stores.requests.claim(candidate)
    for _ in range(3):
        await bench.poll()
    assert [event.outcome for event in world.recorder.of(ClaimTried)] == ["lost"]


async def test_a_request_that_cannot_be_decoded_is_not_tried_again(
    world: World, bench: PollBench
) -> None:
    """It was failed, and costs no further writes while the index still shows it."""
    await world.put_pending("odd", Action={"S": "echo"}, Payload={"S": "no map"})
    await stop_index(world)
    for _ in range(3):
        await bench.poll()
    assert [event.outcome for event in world.recorder.of(ClaimTried)] == ["error"]


async def test_a_request_that_cannot_be_decoded_is_failed_and_reported(
    world: World, bench: PollBench
) -> None:
    """It is not skipped silently, and does not stop other requests."""
    await world.put_pending("odd", Action={"S": "echo"}, Payload={"S": "no map"})
    (good,) = await enqueue(world, 1)
    assert await bench.poll() == [good]
    item = await world.engine.inner.get(REQUESTS, "odd")
    assert item is not None
    assert (item["Status"], item["ErrorCode"]) == ({"S": "FAILED"}, {"S": "INVALID_REQUEST"})
    (tried,) = [event for event in world.recorder.of(ClaimTried) if event.request_id == "odd"]
    assert tried.outcome == "error"
    assert "Payload" in str(tried.error)
    assert [event.key for event in world.recorder.of(ItemUndecodable)] == ["odd"]


@pytest.mark.parametrize("wrong", [{"CreatedAt": {"S": "?"}}, {"Version": {"N": "1"}}, {}])
async def test_wrong_index_entries_do_not_end_the_poll(
    wrong: dict[str, Any], world: World, bench: PollBench
) -> None:
    """A request with an odd time or Version ends in some way, and other requests run."""
    await world.put_pending("odd", **wrong)
    (good,) = await enqueue(world, 1)
    assert await bench.poll() == [good]
    item = await world.engine.inner.get(REQUESTS, "odd")
    assert item is not None
    assert item["Status"] == {"S": "FAILED"}


async def test_failed_claims_are_reported_and_tried_again(world: World, bench: PollBench) -> None:
    """After an error the same Version is claimed at the next poll."""
    ids = await enqueue(world, 3)
    world.engine.fail("update", times=2)
    first = await bench.poll()
    assert bench.slots.used == 0
    assert sorted(first + await bench.poll()) == sorted(ids)
    outcomes = [event.outcome for event in world.recorder.of(ClaimTried)]
    assert sorted(outcomes) == ["error", "error", "won", "won", "won"]


async def test_an_outage_of_the_index_is_raised_to_the_loop(world: World, bench: PollBench) -> None:
    """No slot is lost, and the next step reads the index again."""
    ids = await enqueue(world, 1)
    world.engine.fail("query")
    with pytest.raises(StoreUnavailable):
        await bench.poller.step()
    assert bench.slots.used == 0
    assert await bench.poll() == ids


async def test_nothing_is_claimed_while_heartbeats_fail(world: World, bench: PollBench) -> None:
    """Other workers may soon declare this one dead, and would run the request too.

    Proves LEASE-5.
    """
    ids = await enqueue(world, 1)
    bench.membership.on_heartbeat(-math.inf)
    assert await bench.poll() == []
    bench.membership.on_heartbeat(0)
    assert await bench.poll() == ids
