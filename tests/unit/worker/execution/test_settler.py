"""Writing the outcome."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import anyio
import pytest

from streamer_store import AccessDenied, Claim, RequestStatus, StoreError, StoreUnavailable, codec
from streamer_store.claims import ITEM_TOO_LARGE
from streamer_worker.events import SettleDelayed
from streamer_worker.execution.outcome import Complete, Fail, Outcome, Release
from streamer_worker.execution.settler import Settler
from unit.worker import benches
from unit.worker.faulty_engine import moves_to
from unit.worker.harness import World, virtual_time

pytestmark = pytest.mark.anyio

COMPLETE = Complete(result={"ok": True})
FAIL = Fail(error="no rows", code="PROCESSING_FAILED")
OUTCOMES = [
    (COMPLETE, "completed", RequestStatus.COMPLETED),
    (FAIL, "failed", RequestStatus.FAILED),
    (Release(), "released", RequestStatus.PENDING),
]


@pytest.fixture
def settler(world: World) -> Settler:
    return benches.settler(world)


async def settled_as(settler: Settler, claim: Claim, outcome: Outcome) -> str:
    return (await settler.settle(claim, outcome))[0]


@pytest.mark.parametrize(("outcome", "name", "status"), OUTCOMES)
async def test_an_outcome_is_written(
    outcome: Outcome, name: str, status: RequestStatus, world: World, settler: Settler
) -> None:
    """It is one write, and the status is returned."""
    claim = await world.claim()
    world.engine.calls.clear()
    assert await settled_as(settler, claim, outcome) == name
    assert world.engine.calls == ["update"]
    assert (await world.get(claim)).status is status


async def test_a_result_and_a_failure_are_stored_whole(world: World, settler: Settler) -> None:
    """Every field of the outcome is in the table."""
    done, failed = await world.claim(), await world.claim()
    await settler.settle(done, COMPLETE)
    await settler.settle(failed, FAIL)
    assert (await world.get(done)).result == {"ok": True}
    stored = await world.get(failed)
    assert (stored.error, stored.error_code) == ("no rows", "PROCESSING_FAILED")


async def test_a_release_uses_no_attempt(world: World, settler: Settler) -> None:
    """RetryCount is unchanged, and no worker is named any more."""
    claim = await world.claim()
    await settler.settle(claim, Release())
    stored = await world.get(claim)
    assert (stored.retry_count, stored.worker_id) == (0, None)


@virtual_time
@pytest.mark.parametrize(("outcome", "name", "status"), OUTCOMES)
@pytest.mark.parametrize("lands", [False, True], ids=["not-landed", "answer-lost"])
async def test_a_failed_write_is_retried_through_an_outage(
    outcome: Outcome,
    name: str,
    status: RequestStatus,
    world: World,
    settler: Settler,
    *,
    lands: bool,
) -> None:
    """Each failure is emitted, and the write is repeated until it succeeds. A lost answer is no
    loss. Proves VERSION-2 and SETTLE-1.
    """
    claim = await world.claim()
    fault = world.engine.fail("update", times=30, lands=lands)
    assert await settled_as(settler, claim, outcome) == name
    delays = world.recorder.of(SettleDelayed)
    assert [event.error for event in delays] == [fault.error] * 30
    assert {event.request_id for event in delays} == {claim.request_id}
    assert (await world.get(claim)).status is status


@virtual_time
async def test_delays_between_writes_grow(world: World, settler: Settler) -> None:
    """The longest is ten seconds, so that an outage is not met with many writes."""
    claim = await world.claim()
    times: list[float] = []

    def note(_update: Any) -> bool:
        times.append(anyio.current_time())
        return True

    world.engine.fail("update", when=note, times=20)
    await settler.settle(claim, COMPLETE)
    waits = [after - before for before, after in pairwise(times)]
    assert waits[0] <= 0.1
    assert all(5 <= wait <= 10 for wait in waits[8:])


@virtual_time
async def test_access_denied_is_retried_too(world: World, settler: Settler) -> None:
    """An operator may fix it within the hour."""
    claim = await world.claim()
    world.engine.fail("update", AccessDenied("no policy"), times=3)
    assert await settled_as(settler, claim, COMPLETE) == "completed"


@virtual_time
async def test_after_an_hour_the_write_is_given_up(world: World, settler: Settler) -> None:
    """The status is unsettled. Another worker rescues the request."""
    claim = await world.claim()
    world.engine.fail("update", times=10**6)
    began = anyio.current_time()
    assert await settled_as(settler, claim, COMPLETE) == "unsettled"
    assert anyio.current_time() - began == pytest.approx(3600)


@virtual_time
async def test_a_write_that_never_answers_is_given_up(world: World, settler: Settler) -> None:
    """The hour also limits one write that hangs."""
    claim = await world.claim()
    world.engine.hold("update")
    assert await settled_as(settler, claim, COMPLETE) == "unsettled"


@virtual_time
async def test_tighten_limits_a_write_under_way(world: World, settler: Settler) -> None:
    """A worker that ends does not wait an hour for the table."""
    claim = await world.claim()
    world.engine.fail("update", times=10**6)
    ended: list[str] = []

    async def settle() -> None:
        ended.append(await settled_as(settler, claim, COMPLETE))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(settle)
        await world.recorder.wait_for(SettleDelayed)
        forced = anyio.current_time()
        settler.tighten(5)
    assert ended == ["unsettled"]
    assert anyio.current_time() - forced == pytest.approx(5)


@virtual_time
async def test_tighten_limits_later_writes(world: World, settler: Settler) -> None:
    """All writes have the same deadline. A write that succeeds before it is kept."""
    late, later = await world.claim(), await world.claim()
    settler.tighten(5)
    await anyio.sleep(4)
    world.engine.fail("update", times=10**6)
    began = anyio.current_time()
    assert await settled_as(settler, late, COMPLETE) == "unsettled"
    assert anyio.current_time() - began == pytest.approx(1)
    world.engine.heal()
    assert await settled_as(settler, later, COMPLETE) == "unsettled"


@pytest.mark.parametrize("outcome", [outcome for outcome, _, _ in OUTCOMES])
async def test_a_cancelled_request_stays_cancelled(
    outcome: Outcome, world: World, settler: Settler
) -> None:
    """The fence refuses the outcome, which is dropped and emitted."""
    claim = await world.claim()
    await world.stores.requests.cancel(claim.request_id)
    assert await settled_as(settler, claim, outcome) == "cancelled"
    assert (await world.get(claim)).status is RequestStatus.CANCELLED
    assert world.recorder.of(SettleDelayed) == []


async def rescued(world: World, claim: Claim) -> None:
    seen = codec.candidate(codec.request_item(await world.get(claim)))
    await world.stores.requests.rescue(seen, error="worker is gone", code="WORKER_LOST")


async def deleted(world: World, claim: Claim) -> None:
    await world.stores.requests.delete(claim.request_id)


@pytest.mark.parametrize("lose", [rescued, deleted])
@pytest.mark.parametrize("outcome", [outcome for outcome, _, _ in OUTCOMES])
async def test_a_lost_claim_writes_nothing(
    lose: Any, outcome: Outcome, world: World, settler: Settler
) -> None:
    """The request of its new owner is unchanged, and a deleted request is not written again."""
    claim = await world.claim()
    await lose(world, claim)
    before = await world.stores.requests.get_many([claim.request_id])
    assert await settled_as(settler, claim, outcome) == "claim_lost"
    assert await world.stores.requests.get_many([claim.request_id]) == before


async def test_a_result_too_large_fails_the_request(world: World, settler: Settler) -> None:
    """It is FAILED with a code of its own, without retries."""
    claim = await world.claim()
    assert await settled_as(settler, claim, Complete(result={"x": "y" * 450_000})) == "failed"
    stored = await world.get(claim)
    assert (stored.status, stored.error_code) == (RequestStatus.FAILED, ITEM_TOO_LARGE)
    assert "too large" in (stored.error or "")
    assert world.recorder.of(SettleDelayed) == []


@virtual_time
async def test_a_result_too_large_survives_an_outage(world: World, settler: Settler) -> None:
    """If an outage affects the failure, too, the whole is tried again."""
    claim = await world.claim()
    world.engine.fail("update", when=moves_to("FAILED"), times=3, lands=True)
    assert await settled_as(settler, claim, Complete(result={"x": "y" * 450_000})) == "failed"
    assert (await world.get(claim)).error_code == ITEM_TOO_LARGE


async def test_a_result_that_became_invalid_fails_the_request(
    world: World, settler: Settler
) -> None:
    """The store refuses a result that changed after the decision, and a failure is written
    instead.
    """
    claim = await world.claim()
    assert await settled_as(settler, claim, Complete(result={"x": float("nan")})) == "failed"
    assert (await world.get(claim)).error_code == "INVALID_RESULT"


@pytest.mark.parametrize(("outcome", "name", "status"), OUTCOMES)
async def test_cancellation_does_not_interrupt_a_write(
    outcome: Outcome, name: str, status: RequestStatus, world: World, settler: Settler
) -> None:
    """A write under way is finished, and so is one that begins after the cancellation.

    Proves SETTLE-1.
    """
    claim, another = await world.claim(), await world.claim()
    fault = world.engine.hold("update")
    results: list[str] = []

    async def settle() -> None:
        results.append(await settled_as(settler, claim, outcome))
        results.append(await settled_as(settler, another, outcome))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(settle)
        await fault.wait_reached()
        tasks.cancel_scope.cancel()
        fault.let_go()
    assert results == [name, name]
    assert (await world.get(claim)).status is status
    assert (await world.get(another)).status is status


@virtual_time
async def test_cancellation_does_not_end_the_retries(world: World, settler: Settler) -> None:
    """An outage while the worker drains loses no result. Proves SETTLE-1."""
    claim = await world.claim()
    world.engine.fail("update", StoreUnavailable("away"), times=5)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await settler.settle(claim, COMPLETE)
    assert (await world.get(claim)).status is RequestStatus.COMPLETED


@virtual_time
async def test_an_unknown_error_is_retried(world: World, settler: Settler) -> None:
    """The result is kept until it can be written."""
    claim = await world.claim()
    world.engine.fail("update", StoreError("SomethingNewException: no"), times=20)
    assert await settled_as(settler, claim, COMPLETE) == "completed"
    assert (await world.get(claim)).result == {"ok": True}
    assert len(world.recorder.of(SettleDelayed)) == 20
