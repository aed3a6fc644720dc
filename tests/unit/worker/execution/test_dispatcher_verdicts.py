"""What a handler raises, and what becomes of its request."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Any

import anyio
import pytest

from streamer_store import RequestStatus
from streamer_worker import (
    Context,
    Reject,
    RetryLater,
    RetryPolicy,
    handler,
)
from streamer_worker.events import HandlerRaised, RequestFinished
from streamer_worker.settings import PollSettings
from unit.worker.benches import DispatchBench, Raising
from unit.worker.harness import World, running, virtual_time

pytestmark = pytest.mark.anyio
SLOWLY = PollSettings(min_interval=0.05, max_interval=5.0)


async def test_run_later_snoozes_the_request(world: World) -> None:
    """RETRYING until its time, the reason readable, no code, and no attempt used."""
    raising = Raising(RetryLater("the report is not there yet", after=90))
    claim = await world.claim("work", retry_count=2, max_retries=2)
    assert await DispatchBench(world, raising.handler).run(claim) == "snoozed"
    stored = await world.get(claim)
    assert (stored.status, stored.retry_count) == (RequestStatus.RETRYING, 2)
    assert (stored.error, stored.error_code) == ("the report is not there yet", None)
    assert stored.retry_after is not None
    assert stored.processing_ended is not None
    assert stored.retry_after - stored.processing_ended == timedelta(seconds=90)
    (finished,) = world.recorder.of(RequestFinished)
    assert (finished.outcome, finished.code) == ("snoozed", None)


@virtual_time
async def test_a_request_may_be_snoozed_again_and_again(world: World) -> None:
    """More often than it has retries; each time is its first attempt."""
    raising = Raising(*(RetryLater(after=timedelta(minutes=5)) for _ in range(10)))
    request = await world.enqueue("work", max_retries=1)
    async with running(world.app([raising.handler], poll=SLOWLY)):
        await world.recorder.wait_for(RequestFinished, 11, within=7200)
    stored = await world.get(request)
    assert (stored.status, stored.retry_count) == (RequestStatus.COMPLETED, 0)
    assert raising.attempts == [1] * 11
    assert raising.called[-1] - raising.called[0] == pytest.approx(3000, abs=10)


async def test_run_later_can_count_as_a_failed_attempt(world: World) -> None:
    """With its own delay, whatever the policy says."""
    raising = Raising(RetryLater("throttled", after=5000, counts=True))
    claim = await world.claim("work", max_retries=1)
    assert await DispatchBench(world, raising.handler).run(claim) == "retried"
    stored = await world.get(claim)
    assert (stored.status, stored.retry_count) == (RequestStatus.RETRYING, 1)
    assert (stored.error, stored.error_code) == ("throttled", "PROCESSING_FAILED")
    assert stored.retry_after is not None
    assert stored.processing_ended is not None
    assert stored.retry_after - stored.processing_ended == timedelta(seconds=5000)


async def test_what_counts_comes_to_an_end(world: World) -> None:
    """Past MaxRetries there is no later."""
    raising = Raising(RetryLater("throttled", after=5, counts=True))
    claim = await world.claim("work", retry_count=3, max_retries=3)
    assert await DispatchBench(world, raising.handler).run(claim) == "failed"
    stored = await world.get(claim)
    assert (stored.status, stored.error) == (RequestStatus.FAILED, "throttled")
    assert stored.error_code == "PROCESSING_FAILED"


async def test_a_rejected_request_fails_for_good(world: World) -> None:
    """Under the handler's code, with all its retries left."""
    raising = Raising(Reject("no such account", code="NO_ACCOUNT"))
    claim = await world.claim("work", max_retries=5)
    assert await DispatchBench(world, raising.handler).run(claim) == "failed"
    stored = await world.get(claim)
    assert (stored.status, stored.retry_count) == (RequestStatus.FAILED, 0)
    assert (stored.error, stored.error_code) == ("no such account", "NO_ACCOUNT")
    assert stored.retry_after is None
    assert world.recorder.of(RequestFinished)[0].code == "NO_ACCOUNT"


class Codes(Enum):
    NO_ACCOUNT = "NO_ACCOUNT"
    FOUR = 4


@pytest.mark.parametrize(
    ("code", "stored_code"),
    [
        (7, "7"),
        (Codes.NO_ACCOUNT, "NO_ACCOUNT"),
        (Codes.FOUR, "4"),
        ("lone \ud800", r"lone \ud800"),
        ("two\nlines", r"two\nlines"),
        ("x" * 500_000, "x" * 200),
        ("\n" * 200, r"\n" * 100),
        ("", "REJECTED"),
        (None, "REJECTED"),
        (True, "REJECTED"),
        (10**5000, "REJECTED"),
        (object(), "REJECTED"),
    ],
    ids=lambda each: str(type(each).__name__),
)
async def test_a_code_that_cannot_be_stored_loses_no_reason(
    code: Any, stored_code: str, world: World
) -> None:
    """The request fails at once, with the handler's text; the code is made text, or REJECTED."""
    raising = Raising(Reject("no such account", code=code))
    claim = await world.claim("work", max_retries=5)
    assert await DispatchBench(world, raising.handler).run(claim) == "failed"
    stored = await world.get(claim)
    assert (stored.status, stored.error_code) == (RequestStatus.FAILED, stored_code)
    assert stored.error == "no such account"


async def test_an_exception_is_readable_while_the_request_waits(world: World) -> None:
    """Error and code are there, one attempt is used, and it is nobody's meanwhile."""
    claim = await world.claim("work", max_retries=3)
    raising = Raising(ConnectionError("the bank is closed"))
    assert await DispatchBench(world, raising.handler).run(claim) == "retried"
    stored = await world.get(claim)
    assert (stored.status, stored.retry_count) == (RequestStatus.RETRYING, 1)
    assert (stored.error, stored.error_code) == ("the bank is closed", "PROCESSING_FAILED")
    assert stored.worker_id is None
    (finished,) = world.recorder.of(RequestFinished)
    assert (finished.outcome, finished.code) == ("retried", "PROCESSING_FAILED")
    assert finished.will_retry


@virtual_time
async def test_exceptions_are_retried_up_to_max_retries(world: World) -> None:
    """One attempt and so many more, each told to the handler; the last error stays."""
    raising = Raising(*(ValueError(f"number {number}") for number in range(1, 9)))
    request = await world.enqueue("work", max_retries=4)
    async with running(world.app([raising.handler], poll=SLOWLY)):
        await world.recorder.wait_for(RequestFinished, 5, within=3600)
        await anyio.sleep(3600)
    assert raising.attempts == [1, 2, 3, 4, 5]
    stored = await world.get(request)
    assert (stored.status, stored.retry_count) == (RequestStatus.FAILED, 4)
    assert (stored.error, stored.error_code) == ("number 5", "PROCESSING_FAILED")
    outcomes = [each.outcome for each in world.recorder.of(RequestFinished)]
    assert outcomes == ["retried"] * 4 + ["failed"]


@virtual_time
async def test_a_second_attempt_does_not_show_the_first_ones_error(world: World) -> None:
    """Error and code go when it is claimed again, and stay away when it succeeds."""
    raising = Raising(ValueError("at first"))
    seen: list[str | None] = []

    @handler("work")
    async def work(payload: dict[str, Any], ctx: Context) -> Any:
        seen.append((await world.stores.requests.get(ctx.request_id)).error)
        return await raising.handler(payload, ctx)

    request = await world.enqueue("work", max_retries=1)
    async with running(world.app([work], poll=SLOWLY)):
        await world.recorder.wait_for(RequestFinished, 2, within=3600)
    stored = await world.get(request)
    assert (stored.status, stored.error, stored.error_code) == (
        RequestStatus.COMPLETED,
        None,
        None,
    )
    assert seen == [None, None]


async def delays(world: World, policy: RetryPolicy | None, *, retry_count: int = 0) -> list[float]:
    """Return how long thirty requests wait after that attempt."""
    found = []
    for _ in range(30):
        raising = Raising(ValueError("no rows"), retry=policy)
        claim = await world.claim("work", retry_count=retry_count, max_retries=9)
        assert await DispatchBench(world, raising.handler).run(claim) == "retried"
        stored = await world.get(claim)
        assert stored.retry_after is not None
        assert stored.processing_ended is not None
        found.append((stored.retry_after - stored.processing_ended).total_seconds())
    return found


@pytest.mark.parametrize(("retry_count", "most"), [(0, 2), (1, 4), (2, 8), (5, 64)])
async def test_waits_grow_from_attempt_to_attempt(
    retry_count: int, most: float, world: World
) -> None:
    """Twice as long at most each time, with jitter over the whole of it."""
    found = await delays(world, None, retry_count=retry_count)
    assert max(found) <= most
    assert max(found) > most / 2
    assert len(set(found)) > 20


async def test_a_handlers_own_policy_decides(world: World) -> None:
    """How long the first wait is, and how long any may be."""
    patient = await delays(world, RetryPolicy(first=5000, longest=20_000), retry_count=5)
    assert 10_000 < max(patient) <= 20_000
    assert await delays(world, RetryPolicy(first=0, longest=0), retry_count=5) == [0.0] * 30


@virtual_time
async def test_a_retry_without_a_wait_runs_at_once(world: World) -> None:
    """A policy may say so: all attempts within a second."""
    raising = Raising(*[ValueError("no rows")] * 9, retry=RetryPolicy(first=0, longest=0))
    request = await world.enqueue("work", max_retries=9)
    async with running(world.app([raising.handler], poll=SLOWLY)):
        await world.recorder.wait_for(RequestFinished, 10)
    assert raising.called[-1] - raising.called[0] < 1
    assert (await world.get(request)).status is RequestStatus.COMPLETED


@pytest.mark.parametrize(
    "error",
    [ValueError("no rows"), Reject("no rows"), RetryLater(after=1), SystemExit(3)],
    ids=lambda error: type(error).__name__,
)
async def test_what_a_handler_raised_is_told_with_its_traceback(
    error: BaseException, world: World
) -> None:
    """The exception itself, before what became of the request."""
    await DispatchBench(world, Raising(error).handler).run(await world.claim("work"))
    (told,) = world.recorder.of(HandlerRaised)
    assert told.error is error
    assert told.error.__traceback__ is not None
    (finished,) = world.recorder.of(RequestFinished)
    assert world.recorder.events.index(told) < world.recorder.events.index(finished)


class Curt(Reject):
    def __init__(self) -> None:
        pass


class Treacherous(dict[str, Any]):
    def items(self) -> Any:
        raise SystemExit(0)


async def test_a_verdict_of_ones_own_class_may_forget_its_base(world: World) -> None:
    """Its code is then the usual one."""
    claim = await world.claim("work", max_retries=5)
    assert await DispatchBench(world, Raising(Curt()).handler).run(claim) == "failed"
    stored = await world.get(claim)
    assert (stored.status, stored.error_code) == (RequestStatus.FAILED, "REJECTED")


async def test_a_result_that_raises_when_it_is_read_fails_the_attempt(world: World) -> None:
    """Whatever it raises; the worker lives."""

    @handler("treacherous")
    async def treacherous(_payload: dict[str, Any], _ctx: Context) -> Any:
        return Treacherous(one=1)

    claim = await world.claim("treacherous")
    assert await DispatchBench(world, treacherous).run(claim) == "failed"
    stored = await world.get(claim)
    assert (stored.status, stored.error_code) == (RequestStatus.FAILED, "PROCESSING_FAILED")
    assert stored.error is not None
    assert "SystemExit" in stored.error
