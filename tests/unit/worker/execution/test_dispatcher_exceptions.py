"""The exceptions of handlers, and the outcomes of their requests."""

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
from streamer_worker.events import Event, Events, HandlerRaised, RequestFinished
from streamer_worker.settings import PollSettings
from unit.worker.benches import DispatchBench, Raising
from unit.worker.harness import World, running, virtual_time

pytestmark = pytest.mark.anyio
SLOWLY = PollSettings(min_interval=0.05, max_interval=5.0)


async def test_retry_later_snoozes_the_request(world: World) -> None:
    """It is RETRYING with the reason and without a code. The attempt does not count."""
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
async def test_a_request_can_be_snoozed_more_often_than_it_has_retries(world: World) -> None:
    """Each run is its first attempt."""
    raising = Raising(*(RetryLater(after=timedelta(minutes=5)) for _ in range(10)))
    request = await world.enqueue("work", max_retries=1)
    async with running(world.app([raising.handler], poll=SLOWLY)):
        await world.recorder.wait_for(RequestFinished, 11, within=7200)
    stored = await world.get(request)
    assert (stored.status, stored.retry_count) == (RequestStatus.COMPLETED, 0)
    assert raising.attempts == [1] * 11
    assert raising.called[-1] - raising.called[0] == pytest.approx(3000, abs=10)


async def test_retry_later_can_count_as_a_failed_attempt(world: World) -> None:
    """Its delay is used in place of the policy's."""
    raising = Raising(RetryLater("throttled", after=5000, counts=True))
    claim = await world.claim("work", max_retries=1)
    assert await DispatchBench(world, raising.handler).run(claim) == "retried"
    stored = await world.get(claim)
    assert (stored.status, stored.retry_count) == (RequestStatus.RETRYING, 1)
    assert (stored.error, stored.error_code) == ("throttled", "PROCESSING_FAILED")
    assert stored.retry_after is not None
    assert stored.processing_ended is not None
    assert stored.retry_after - stored.processing_ended == timedelta(seconds=5000)


async def test_retry_later_that_counts_fails_without_a_retry_left(world: World) -> None:
    """After MaxRetries the request fails."""
    raising = Raising(RetryLater("throttled", after=5, counts=True))
    claim = await world.claim("work", retry_count=3, max_retries=3)
    assert await DispatchBench(world, raising.handler).run(claim) == "failed"
    stored = await world.get(claim)
    assert (stored.status, stored.error) == (RequestStatus.FAILED, "throttled")
    assert stored.error_code == "PROCESSING_FAILED"


@pytest.mark.parametrize(
    ("error", "outcome", "code", "text"),
    [
        (ValueError("no rows"), "retried", "PROCESSING_FAILED", "no rows"),
        (Reject("no such account", code="NO_ACCOUNT"), "failed", "NO_ACCOUNT", "no such account"),
        (RetryLater("busy", after=5, counts=True), "retried", "PROCESSING_FAILED", "busy"),
        (KeyError("\x1b[31m"), "retried", "PROCESSING_FAILED", r"'\x1b[31m'"),
        (SystemExit(3), "retried", "PROCESSING_FAILED", "3"),
        (ExceptionGroup("both", [Reject("no", code="NO")]), "failed", "NO", "no"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
async def test_a_failed_attempt_is_kept_with_the_request(
    error: BaseException, outcome: str, code: str, text: str, world: World
) -> None:
    """With its worker, times, code, and the class and the text of the deciding exception."""
    claim = await world.claim("work", retry_count=1, max_retries=3)
    await DispatchBench(world, Raising(error).handler).run(claim)
    (attempt,) = (await world.get(claim)).attempts
    assert (attempt.number, attempt.worker_id) == (2, claim.request.worker_id)
    assert attempt.started == claim.request.processing_started
    assert (attempt.outcome, attempt.error_code, attempt.error) == (outcome, code, text)
    group = isinstance(error, ExceptionGroup)
    assert attempt.error_class == ("Reject" if group else type(error).__name__)


async def test_a_rejected_request_fails_for_good(world: World) -> None:
    """It has the handler's code, although all retries are left."""
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
    ids=lambda code: str(type(code).__name__),
)
async def test_a_code_that_cannot_be_stored_keeps_the_error(
    code: Any, stored_code: str, world: World
) -> None:
    """The request fails at once with the handler's text. The code is converted to text, or is
    REJECTED.
    """
    raising = Raising(Reject("no such account", code=code))
    claim = await world.claim("work", max_retries=5)
    assert await DispatchBench(world, raising.handler).run(claim) == "failed"
    stored = await world.get(claim)
    assert (stored.status, stored.error_code) == (RequestStatus.FAILED, stored_code)
    assert stored.error == "no such account"


async def test_an_exception_is_readable_while_the_request_waits(world: World) -> None:
    """Error and code are stored, the attempt counts, and no worker is named meanwhile."""
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
    """MaxRetries attempts follow the first. Each handler sees its number, and the last error is
    kept.
    """
    raising = Raising(*(ValueError(f"number {number}") for number in range(1, 9)))
    request = await world.enqueue("work", max_retries=4)
    async with running(world.app([raising.handler], poll=SLOWLY)):
        await world.recorder.wait_for(RequestFinished, 5, within=3600)
        await anyio.sleep(3600)
    assert raising.attempts == [1, 2, 3, 4, 5]
    stored = await world.get(request)
    assert (stored.status, stored.retry_count) == (RequestStatus.FAILED, 4)
    assert (stored.error, stored.error_code) == ("number 5", "PROCESSING_FAILED")
    outcomes = [event.outcome for event in world.recorder.of(RequestFinished)]
    assert outcomes == ["retried"] * 4 + ["failed"]


@virtual_time
async def test_a_second_attempt_does_not_show_the_first_ones_error(world: World) -> None:
    """A claim removes error and code, and they are absent after a success."""
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
    waits = []
    for _ in range(30):
        raising = Raising(ValueError("no rows"), retry=policy)
        claim = await world.claim("work", retry_count=retry_count, max_retries=9)
        assert await DispatchBench(world, raising.handler).run(claim) == "retried"
        stored = await world.get(claim)
        assert stored.retry_after is not None
        assert stored.processing_ended is not None
        waits.append((stored.retry_after - stored.processing_ended).total_seconds())
    return waits


@pytest.mark.parametrize(("retry_count", "most"), [(0, 2), (1, 4), (2, 8), (5, 64)])
async def test_delays_double_from_attempt_to_attempt(
    retry_count: int, most: float, world: World
) -> None:
    """The maximum doubles, and the delay is drawn from the whole range below it."""
    waits = await delays(world, None, retry_count=retry_count)
    assert max(waits) <= most
    assert max(waits) > most / 2
    assert len(set(waits)) > 20


async def test_a_handlers_own_policy_decides(world: World) -> None:
    """It sets the first delay and the longest."""
    patient = await delays(world, RetryPolicy(first=5000, longest=20_000), retry_count=5)
    assert 10_000 < max(patient) <= 20_000
    assert await delays(world, RetryPolicy(first=0, longest=0), retry_count=5) == [0.0] * 30


@virtual_time
async def test_a_retry_without_a_wait_runs_at_once(world: World) -> None:
    """With a policy of 0 seconds all attempts run within a second."""
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
async def test_an_exception_is_emitted_with_its_traceback(
    error: BaseException, world: World
) -> None:
    """The event has the exception, and comes before the event of the outcome. The traceback is
    removed after that.
    """
    emitted: list[bool] = []

    def listen(event: Event) -> None:
        if isinstance(event, HandlerRaised):
            emitted.append(event.error.__traceback__ is not None)

    world.events = Events(listen, world.recorder)
    await DispatchBench(world, Raising(error).handler).run(await world.claim("work"))
    (raised,) = world.recorder.of(HandlerRaised)
    assert raised.error is error
    assert (emitted, raised.error.__traceback__) == ([True], None)
    (finished,) = world.recorder.of(RequestFinished)
    assert world.recorder.events.index(raised) < world.recorder.events.index(finished)


class Curt(Reject):
    def __init__(self) -> None:
        pass


class Treacherous(dict[str, Any]):
    def items(self) -> Any:
        raise SystemExit(0)


async def test_a_subclass_of_reject_need_not_call_its_base(world: World) -> None:
    """Its code is then the default."""
    claim = await world.claim("work", max_retries=5)
    assert await DispatchBench(world, Raising(Curt()).handler).run(claim) == "failed"
    stored = await world.get(claim)
    assert (stored.status, stored.error_code) == (RequestStatus.FAILED, "REJECTED")


async def test_a_result_that_raises_when_it_is_read_fails_the_attempt(world: World) -> None:
    """Whatever it raises, the worker continues."""

    @handler("treacherous")
    async def treacherous(_payload: dict[str, Any], _ctx: Context) -> Any:
        return Treacherous(one=1)

    claim = await world.claim("treacherous")
    assert await DispatchBench(world, treacherous).run(claim) == "failed"
    stored = await world.get(claim)
    assert (stored.status, stored.error_code) == (RequestStatus.FAILED, "PROCESSING_FAILED")
    assert stored.error is not None
    assert "SystemExit" in stored.error
