"""Sweeps of the rescuer: when they run, what they count, and what does not stop them."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from streamer_store import InvalidInput, StoreUnavailable, WorkerRow
from streamer_store.schema import REQUESTS
from streamer_worker.events import ItemUndecodable, RequestRescued
from streamer_worker.maintenance.rescuer import RescueCounts
from support import START
from unit.worker.harness import World, virtual_time
from unit.worker.maintenance.rescuer_bench import (
    FOLLOWER,
    LEADER,
    LEASE,
    PROCESSING,
    RETRYING,
    Bench,
    bench,
)

__all__ = ["bench"]
pytestmark = pytest.mark.anyio


async def test_a_follower_sweeps_once_in_a_lease(bench: Bench) -> None:
    """A sweep costs two reads and rarely finds anything. A sweep that failed is repeated."""
    assert await bench.step(FOLLOWER) == 0
    claim = await bench.claimed_by("me")
    bench.world.engine.calls.clear()
    bench.time.advance(LEASE - 0.1)
    assert await bench.step(FOLLOWER) == 0
    assert bench.world.engine.calls == []
    bench.time.advance(0.1)
    bench.world.engine.fail("query")
    with pytest.raises(StoreUnavailable):
        await bench.step(FOLLOWER)
    assert await bench.step(FOLLOWER) == 1
    assert await bench.status(claim) is RETRYING


@virtual_time
async def test_another_consumers_requests_are_left(world: World) -> None:
    """For ever, unless `foreign_claim_timeout` is set."""
    bench = Bench(world)
    claim = await bench.claimed_by(None)
    await anyio.sleep(365 * 86400)
    assert await bench.step() == 0
    assert await bench.status(claim) is PROCESSING


@virtual_time
async def test_another_consumers_requests_are_rescued_after_their_time(world: World) -> None:
    """By the leader. The time counts from ProcessingStarted, not from CreatedAt."""
    bench = Bench(world, foreign_claim_timeout=600.0)
    request = await world.enqueue(max_retries=3)
    await anyio.sleep(3600)
    await world.stores.requests.claim(await world.candidate(request))
    await anyio.sleep(599)
    young = await bench.claimed_by(None)
    assert await bench.step() == 0
    await anyio.sleep(LEASE + 1)
    assert await bench.step(FOLLOWER) == 0
    assert await bench.step() == 1
    stored = await world.get(request)
    assert (stored.status, stored.error) == (RETRYING, "its consumer is gone")
    assert await bench.status(young) is PROCESSING


def running_item(name: str, **attributes: Any) -> dict[str, Any]:
    return {
        "RequestID": {"S": name},
        "Status": {"S": "PROCESSING"},
        "CreatedAt": {"S": "2020-01-01T00:00:00Z"},
        "Action": {"S": "echo"},
    } | attributes


async def test_created_at_counts_for_a_consumer_that_writes_no_time(world: World) -> None:
    """Without ProcessingStarted, CreatedAt decides."""
    bench = Bench(world, foreign_claim_timeout=600.0)
    await world.put_raw(**running_item("old"))
    assert await bench.step() == 1
    assert (await world.stores.requests.get("old")).status is RETRYING


async def test_an_undecodable_request_does_not_stop_the_sweep(world: World) -> None:
    """A dead worker's one is failed, another consumer's one is left, and the others are rescued."""
    bench = Bench(world, foreign_claim_timeout=600.0)
    odd = {"RetryCount": {"S": "many"}}
    await world.put_raw(**running_item("lost", WorkerID={"S": "nobody"}, **odd))
    await world.put_raw(**running_item("foreign", **odd))
    await world.put_raw(**running_item("broken", WorkerID={"N": "7"}, Version={"N": "1"}))
    claim = await bench.claimed_by("nobody")
    assert await bench.step() == 2
    assert await bench.status(claim) is RETRYING
    items = await world.engine.inner.get_many(REQUESTS, ["lost", "foreign", "broken"])
    assert [item["Status"]["S"] for item in items] == ["FAILED", "PROCESSING", "PROCESSING"]


async def test_a_write_that_dynamodb_refuses_does_not_stop_the_sweep(bench: Bench) -> None:
    """It is reported, and the other requests are rescued."""
    odd, other = await bench.claimed_by("nobody"), await bench.claimed_by("nobody")
    refused = InvalidInput("refused")
    bench.world.engine.fail(
        "update", when=lambda update: update.key == odd.request_id, error=refused
    )
    assert await bench.step() == 1
    assert (await bench.status(odd), await bench.status(other)) == (PROCESSING, RETRYING)
    (event,) = bench.world.recorder.of(ItemUndecodable)
    assert (event.key, event.reason) == (odd.request_id, "refused")


@pytest.mark.parametrize("happens", ["complete", "delete", "claim"])
@pytest.mark.parametrize("before", ["get", "update"])
async def test_a_race_that_is_lost_is_not_counted(before: str, happens: str, bench: Bench) -> None:
    """The first write wins, and the other requests are rescued. Proves RESCUE-3."""
    requests = bench.world.stores.requests
    claim, other = await bench.claimed_by("nobody"), await bench.claimed_by("nobody")
    fault = bench.world.engine.hold(
        before, when=lambda call: getattr(call, "key", call) == claim.request_id
    )
    counts: list[int] = []

    async def step() -> None:
        counts.append(await bench.step())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(step)
        await fault.wait_reached()
        match happens:
            case "complete":
                await requests.complete(claim)
            case "delete":
                await requests.delete(claim.request_id)
            case "claim":
                await requests.release(claim)
                candidate = await bench.world.candidate(claim.request)
                await requests.claim(candidate, worker_id="other")
        fault.let_go()
    assert counts == [1]
    (event,) = bench.world.recorder.of(RequestRescued)
    assert event.request_id == other.request_id


@pytest.mark.parametrize("operation", ["query", "scan", "get", "update"])
async def test_an_outage_is_raised_as_it_is(operation: str, bench: Bench) -> None:
    """As the store's error, not an exception group. The sweep is not counted."""
    for _ in range(30):
        await bench.claimed_by("nobody")
    bench.world.engine.fail(operation, times=1000)
    with pytest.raises(StoreUnavailable):
        await bench.step()
    assert bench.rescuer.sweeps == 0
    bench.world.engine.heal()
    assert await bench.step() == 30


async def test_all_pages_are_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many requests are running."""
    monkeypatch.setattr("streamer_worker.maintenance.rescuer._PAGE_SIZE", 2)
    for _ in range(5):
        await bench.claimed_by("nobody")
    assert await bench.rescuer.step(LEADER) == RescueCounts(running=5, rescued=5)


async def test_only_a_leaders_sweeps_are_counted(bench: Bench) -> None:
    """Other workers judge the leader by this count."""
    for view in (LEADER, FOLLOWER, LEADER):
        bench.time.advance(LEASE)
        await bench.step(view)
    assert bench.rescuer.sweeps == 2


@virtual_time
async def test_a_consumer_that_is_gone_costs_an_attempt(world: World) -> None:
    """No worker was lost, so nothing counts as a rescue."""
    bench = Bench(world, foreign_claim_timeout=600.0)
    claim = await bench.claimed_by(None)
    await anyio.sleep(601)
    assert await bench.step() == 1
    stored = await world.get(claim)
    assert (stored.retry_count, stored.rescues) == (1, 0)


@virtual_time
async def test_a_running_request_of_a_worker_is_no_other_consumers(world: World) -> None:
    """However long it runs: `foreign_claim_timeout` concerns requests without a WorkerID."""
    bench = Bench(world, foreign_claim_timeout=600.0)
    await world.stores.workers.register(WorkerRow(worker_id="other", started_at=START))
    claim = await bench.claimed_by("other")
    await anyio.sleep(86400)
    assert await bench.step() == 0
    assert await bench.status(claim) is PROCESSING


async def test_another_consumers_request_of_unknown_age_is_checked(world: World) -> None:
    """The whole request decides: an entry whose CreatedAt cannot be read may be old."""
    bench = Bench(world, foreign_claim_timeout=600.0)
    started = {"S": "2020-01-01T00:00:00Z"}
    await world.put_raw(
        **running_item("odd", CreatedAt={"S": "0001-01-01T00:00:00Z"}, ProcessingStarted=started)
    )
    assert await bench.step() == 1
    assert (await world.stores.requests.get("odd")).status is RETRYING


async def test_a_lost_request_survives_as_many_rescues_as_the_settings_say(bench: Bench) -> None:
    """With `max_rescues` 9, the sixth loss in probation does not end it."""
    bench.rescuer._max_rescues = 9
    name = "lost"
    await bench.world.put_raw(
        **running_item(
            name,
            WorkerID={"S": "nobody"},
            Version={"S": "v"},
            Alone={"S": "v"},
            Rescues={"N": "5"},
            Solo={"N": "3"},
        )
    )
    assert await bench.step() == 1
    stored = await bench.world.stores.requests.get(name)
    assert (stored.status, stored.rescues, stored.solo) == (RETRYING, 6, 4)
