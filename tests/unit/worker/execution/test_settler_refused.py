"""Outcomes that the fence or the store refuses, and what of an outcome is announced."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest

from streamer_store import Claim, ItemTooLarge, Progress, Rescued, ValidationError
from streamer_worker.events import SettleDelayed, WriteFenced
from streamer_worker.execution.outcome import Complete, Fail, Outcome, Release, Retry
from streamer_worker.execution.settler import Settler
from streamer_worker.push.messages import CompleteMessage, ErrorMessage
from unit.worker import benches
from unit.worker.harness import World, virtual_time

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)
COMPLETE = Complete(result={"ok": True})
FAIL = Fail(error="no rows", code="PROCESSING_FAILED")
RETRY = Retry(after=MINUTE, error="no rows", code="PROCESSING_FAILED")
OUTCOMES = [(COMPLETE, "complete"), (FAIL, "fail"), (RETRY, "retry"), (Release(), "release")]
TOO_LARGE = ItemTooLarge("item", "500000 bytes")
REFUSED = ValidationError("item", "an expression is wrong")


@pytest.fixture
def settler(world: World) -> Settler:
    return benches.settler(world)


def writes_attribute(name: str) -> Callable[[Any], bool]:
    return lambda update: name in update.sets


@pytest.mark.parametrize(("outcome", "operation"), OUTCOMES)
async def test_a_cancelled_request_is_reported_and_announced(
    outcome: Outcome, operation: str, world: World, settler: Settler
) -> None:
    """The event has the operation that the fence refused. The connection receives CANCELLED."""
    claim = await world.claim(connection_id="c")
    await world.stores.requests.cancel(claim.request_id)
    await settler.settle(claim, outcome)
    assert world.recorder.of(WriteFenced) == [
        WriteFenced(request_id=claim.request_id, operation=operation, cancelled=True, settles=True)
    ]
    (message,) = world.pushed
    assert isinstance(message, ErrorMessage)
    assert (message.request_id, message.connection_id) == (claim.request_id, "c")
    assert message.code == "CANCELLED"


@pytest.mark.parametrize(("outcome", "operation"), OUTCOMES)
async def test_a_lost_claim_is_reported_and_not_announced(
    outcome: Outcome, operation: str, world: World, settler: Settler
) -> None:
    """The worker that has the request now announces its end."""
    claim = await world.claim(connection_id="c")
    await world.stores.requests.delete(claim.request_id)
    await settler.settle(claim, outcome)
    assert world.recorder.of(WriteFenced) == [
        WriteFenced(request_id=claim.request_id, operation=operation, cancelled=False, settles=True)
    ]
    assert world.pushed == []


async def test_the_end_of_a_request_is_announced(world: World, settler: Settler) -> None:
    """The request's connection receives the result, or the error with its code."""
    done, failed = await world.claim(connection_id="c"), await world.claim(connection_id="d")
    await settler.settle(done, COMPLETE)
    await settler.settle(failed, FAIL)
    completed, error = world.pushed
    assert isinstance(completed, CompleteMessage)
    assert (completed.request_id, completed.connection_id) == (done.request_id, "c")
    assert completed.result == {"ok": True}
    assert isinstance(error, ErrorMessage)
    assert (error.request_id, error.connection_id) == (failed.request_id, "d")
    assert (error.code, error.text) == ("PROCESSING_FAILED", "no rows")


@pytest.mark.parametrize("outcome", [RETRY, Release()])
async def test_a_request_that_runs_again_is_not_announced(
    outcome: Outcome, world: World, settler: Settler
) -> None:
    """It has not ended."""
    await settler.settle(await world.claim(connection_id="c"), outcome)
    assert world.pushed == []


@pytest.mark.parametrize(
    ("outcome", "status", "counts"),
    [
        (RETRY, "retried", (2, 0)),
        (Retry(after=MINUTE, error=None, code=None, counts=False), "snoozed", (1, 3)),
        (
            Retry(
                after=MINUTE,
                error="gone",
                code="WORKER_LOST",
                counts=False,
                rescued=Rescued(rescues=4, solo=1, after=MINUTE),
            ),
            "rescued",
            (1, 4),
        ),
    ],
)
async def test_each_retry_has_its_status_and_its_counts(
    outcome: Retry, status: str, counts: tuple[int, int], world: World, settler: Settler
) -> None:
    """A counted attempt adds 1 to RetryCount and clears the rescues. A snooze changes neither.
    A rescue writes its own counts.
    """
    claim = await world.claim(retry_count=1, rescues=3)
    assert await settler.settle(claim, outcome) == (status, outcome)
    stored = await world.get(claim)
    assert (stored.retry_count, stored.rescues) == counts
    assert (stored.error, stored.error_code) == (outcome.error, outcome.code)
    assert stored.retry_after == stored.processing_ended + MINUTE  # type: ignore[operator]


@pytest.mark.parametrize("outcome", [outcome for outcome, _ in OUTCOMES])
async def test_unwritten_progress_is_in_the_same_write(
    outcome: Outcome, world: World, settler: Settler
) -> None:
    """An outcome costs one write, with progress and without."""
    claim = await world.claim()
    world.engine.calls.clear()
    await settler.settle(claim, outcome, Progress(message="almost"))
    assert world.engine.calls == ["update"]
    assert (await world.get(claim)).progress_message == "almost"


@virtual_time
@pytest.mark.parametrize("outcome", [outcome for outcome, _ in OUTCOMES])
async def test_refused_progress_is_left_out(
    outcome: Outcome, world: World, settler: Settler
) -> None:
    """The outcome itself is written at once, and is not replaced by a failure."""
    claim = await world.claim()
    world.engine.fail("update", REFUSED, when=writes_attribute("ProgressMessage"), times=100)
    settled = await settler.settle(claim, outcome, Progress(message="almost"))
    assert settled.outcome == outcome
    assert (await world.get(claim)).progress_message is None
    assert anyio.current_time() == 0


async def retried_too_large(
    world: World, settler: Settler, *, times: int
) -> tuple[Claim, str, Outcome | None]:
    claim = await world.claim()
    world.engine.fail("update", TOO_LARGE, times=times)
    return claim, *(await settler.settle(claim, RETRY))


@virtual_time
async def test_a_retry_without_room_gives_up_the_history_first(
    world: World, settler: Settler
) -> None:
    """It keeps its error, and the request runs again."""
    claim, status, _ = await retried_too_large(world, settler, times=1)
    stored = await world.get(claim)
    assert (status, stored.status) == ("retried", "RETRYING")
    assert (stored.error, stored.error_code) == ("no rows", "PROCESSING_FAILED")
    assert stored.attempts == ()


@virtual_time
async def test_a_retry_without_room_for_its_error_is_written_without(
    world: World, settler: Settler
) -> None:
    """It keeps its code, and the request runs again."""
    claim, status, _ = await retried_too_large(world, settler, times=2)
    stored = await world.get(claim)
    assert (status, stored.status) == ("retried", "RETRYING")
    assert (stored.error, stored.error_code) == (None, "PROCESSING_FAILED")
    assert anyio.current_time() == 0


@virtual_time
async def test_a_retry_without_any_room_fails_the_request(world: World, settler: Settler) -> None:
    """The code is ITEM_TOO_LARGE, and the failure is announced."""
    claim, status, _ = await retried_too_large(world, settler, times=4)
    assert (status, (await world.get(claim)).error_code) == ("failed", "ITEM_TOO_LARGE")
    (message,) = world.pushed
    assert isinstance(message, ErrorMessage)
    assert message.code == "ITEM_TOO_LARGE"
    assert world.recorder.of(SettleDelayed) == []


async def test_a_retry_refused_for_another_reason_is_not_called_too_large(
    world: World, settler: Settler
) -> None:
    """The failure has the store's reason, and not the code of an item without room."""
    claim = await world.claim()
    world.engine.fail("update", REFUSED)
    assert (await settler.settle(claim, RETRY)).status == "failed"
    stored = await world.get(claim)
    assert stored.error_code == "INVALID_RESULT"
    assert "an expression is wrong" in (stored.error or "")


@virtual_time
async def test_a_refused_failure_is_replaced_once(world: World, settler: Settler) -> None:
    """By a short text of the worker's own, which the store can hardly refuse."""
    claim = await world.claim()
    world.engine.fail("update", REFUSED)
    assert (await settler.settle(claim, FAIL)).status == "failed"
    stored = await world.get(claim)
    assert (stored.error, stored.error_code) == (
        "the outcome could not be written",
        "INVALID_RESULT",
    )


@virtual_time
@pytest.mark.parametrize("outcome", [outcome for outcome, _ in OUTCOMES])
async def test_an_outcome_that_is_always_refused_is_unsettled_at_once(
    outcome: Outcome, world: World, settler: Settler
) -> None:
    """Its refusals do not end, so it is not tried for an hour. Nothing is announced."""
    claim = await world.claim()
    world.engine.fail("update", REFUSED, times=100)
    with anyio.fail_after(60):
        assert (await settler.settle(claim, outcome)).status == "unsettled"
    assert anyio.current_time() == 0
    assert world.pushed == []
