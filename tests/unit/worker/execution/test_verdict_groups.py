"""Verdicts that a handler's task group has put into exception groups."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest

from streamer_store import AsyncRequest, ItemTooLarge
from streamer_worker import CallNext, Context, Reject, RetryLater, handler
from streamer_worker.execution.outcome import Fail, Outcome, Raised, Retry, decide, deciding_error
from streamer_worker.execution.processes.protocol import WorkerCrashed
from streamer_worker.handlers.context import CheckpointInvalid
from streamer_worker.handlers.schema import PayloadInvalid
from streamer_worker.retry import RetryPolicy
from streamer_worker.testing import run_handler

pytestmark = pytest.mark.anyio
REQUEST = AsyncRequest(action="a", request_id="r", max_retries=2)
NO_ACCOUNT = Reject("no account", code="NO_ACCOUNT")


def decided(error: BaseException) -> Outcome:
    policy = RetryPolicy(first=10, longest=30)
    return decide(Raised(error=error), request=REQUEST, policy=policy, rng=random.Random(1))


def alone(error: Exception) -> BaseException:
    return ExceptionGroup("unhandled errors in a TaskGroup", [error])


def nested(error: Exception) -> BaseException:
    return ExceptionGroup("outer", [ExceptionGroup("inner", [error])])


def twice(error: Exception) -> BaseException:
    return BaseExceptionGroup("both", [error, ExceptionGroup("inner", [error])])


@pytest.mark.parametrize("grouped", [alone, nested, twice], ids=lambda each: each.__name__)
@pytest.mark.parametrize(
    "error",
    [
        NO_ACCOUNT,
        RetryLater("busy", after=90),
        RetryLater("busy", after=90, counts=True),
        PayloadInvalid((("rows", "missing"),)),
        CheckpointInvalid("checkpoint", "cannot be stored"),
        ItemTooLarge("checkpoint", "has no room"),
        WorkerCrashed("killed"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_group_of_one_kind_of_verdict_is_that_verdict(
    grouped: Callable[[Exception], BaseException], error: Exception
) -> None:
    """However deep it is, and however often it is there."""
    expected = decided(error)
    found = decided(grouped(error))
    if isinstance(error, WorkerCrashed):
        assert isinstance(found, Retry)
        assert found.code == "WORKER_CRASHED"
    else:
        assert found == expected


def test_a_rejection_goes_before_other_verdicts() -> None:
    """A request that can never succeed is not run again. Of several rejections the first is it."""
    group = ExceptionGroup(
        "both", [RetryLater(after=5), Reject("first", code="A"), Reject("second", code="B")]
    )
    assert decided(group) == Fail(error="first", code="A")


@pytest.mark.parametrize("verdict", [NO_ACCOUNT, RetryLater(after=5)])
@pytest.mark.parametrize("other", [ValueError("no rows"), KeyboardInterrupt()])
def test_a_group_with_any_other_exception_is_an_ordinary_failure(
    verdict: Exception, other: BaseException
) -> None:
    """The request runs again, and the text names all of them."""
    outcome = decided(BaseExceptionGroup("both", [verdict, BaseExceptionGroup("in", [other])]))
    assert isinstance(outcome, Retry)
    assert (outcome.code, outcome.counts) == ("PROCESSING_FAILED", True)
    assert outcome.error is not None
    assert str(verdict) in outcome.error


def test_several_delays_are_the_longest_one() -> None:
    """It counts as an attempt if one of them does."""
    group = ExceptionGroup(
        "all",
        [
            RetryLater("a", after=5, counts=True),
            RetryLater("b", after=60),
            RetryLater("c", after=7),
        ],
    )
    outcome = decided(group)
    assert isinstance(outcome, Retry)
    assert (outcome.after, outcome.error, outcome.counts) == (timedelta(minutes=1), "b", True)


def test_a_group_without_end_is_searched_all_the_same() -> None:
    """Deeper than Python may recurse."""
    group: Exception = Reject("bottom")
    for level in range(5000):
        group = ExceptionGroup(f"level {level}", [group])
    assert deciding_error(group).args == ("bottom",)


def test_a_verdict_that_cannot_be_read_is_an_ordinary_failure() -> None:
    """The search itself raises nothing."""

    class Curt(RetryLater):
        def __init__(self) -> None:
            pass

        counts = property(lambda _self: 1 / 0)

    group = ExceptionGroup("both", [Curt(), Curt()])
    assert deciding_error(group) is group


@pytest.mark.parametrize(
    ("error", "became", "code"),
    [(NO_ACCOUNT, "failed", "NO_ACCOUNT"), (RetryLater("busy", after=90), "snoozed", None)],
    ids=["reject", "later"],
)
async def test_a_verdict_out_of_a_task_group_reaches_the_table(
    error: Exception, became: str, code: str | None
) -> None:
    """Raised by a task that the handler has started; it is told as the verdict that it is."""

    async def part() -> None:
        raise error

    @handler("work")
    async def work(_payload: dict[str, Any], _ctx: Context) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(part)

    run = await run_handler(work)
    assert (run.status, run.request.error_code) == (became, code)
    assert run.request.error == str(error)
    assert run.error is error


async def test_a_payload_that_does_not_fit_is_told_as_such_out_of_a_task_group() -> None:
    """As by middleware that runs something beside the handler."""

    async def beside(call: CallNext, request: AsyncRequest, ctx: Context) -> None:
        async def called() -> None:
            await call(request, ctx)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(called)

    @handler("work")
    async def work(payload: dict[str, int], _ctx: Context) -> None:
        del payload

    run = await run_handler(work, {"rows": "many"}, middleware=[beside])
    assert (run.status, run.request.error_code) == ("failed", "VALIDATION_ERROR")
    assert run.error is None  # it is no failure of the handler
