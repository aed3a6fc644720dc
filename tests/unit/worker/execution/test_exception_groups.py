"""Exception groups with exceptions that decide the outcome."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import anyio
import pytest

from streamer_store import AsyncRequest, ItemTooLarge
from streamer_worker import CallNext, Context, Reject, RetryLater, handler
from streamer_worker.execution.outcome import Fail, Outcome, Raised, Retry, decide, deciding_error
from streamer_worker.execution.processes.protocol import ResultInvalid, WorkerCrashed
from streamer_worker.handlers.client_message import MessageInvalid
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


@pytest.mark.parametrize("grouped", [alone, nested, twice], ids=lambda function: function.__name__)
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
    ids=lambda error: type(error).__name__,
)
def test_a_group_of_one_deciding_class_decides_as_its_member(
    grouped: Callable[[Exception], BaseException], error: Exception
) -> None:
    """However deep the group is, and however often it has the exception."""
    expected = decided(error)
    outcome = decided(grouped(error))
    if isinstance(error, WorkerCrashed):
        assert isinstance(outcome, Retry)
        assert outcome.code == "WORKER_CRASHED"
    else:
        assert outcome == expected


def test_a_rejection_in_a_group_decides_before_others() -> None:
    """Of several rejections the first decides."""
    group = ExceptionGroup(
        "both", [RetryLater(after=5), Reject("first", code="A"), Reject("second", code="B")]
    )
    assert decided(group) == Fail(error="first", code="A")


@pytest.mark.parametrize("verdict", [NO_ACCOUNT, RetryLater(after=5)])
@pytest.mark.parametrize("other", [ValueError("no rows"), KeyboardInterrupt()])
def test_a_group_with_any_other_exception_is_an_ordinary_failure(
    verdict: Exception, other: BaseException
) -> None:
    """The request is retried, and the error has the texts of all members."""
    outcome = decided(BaseExceptionGroup("both", [verdict, BaseExceptionGroup("in", [other])]))
    assert isinstance(outcome, Retry)
    assert (outcome.code, outcome.counts) == ("PROCESSING_FAILED", True)
    assert outcome.error is not None
    assert str(verdict) in outcome.error


def test_several_retry_later_become_the_longest() -> None:
    """The attempt counts if it counts for one of them."""
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


@pytest.mark.parametrize("counts", [False, True])
def test_one_retry_later_for_the_action_holds_it(*, counts: bool) -> None:
    """The whole action waits as long as the longest of the group."""
    group = ExceptionGroup(
        "all", [RetryLater(after=5, scope="action", counts=counts), RetryLater(after=60)]
    )
    outcome = decided(group)
    assert isinstance(outcome, Retry)
    assert outcome.hold == timedelta(minutes=1)


def test_a_very_deep_group_is_searched() -> None:
    """It is nested deeper than Python recurses."""
    group: Exception = Reject("bottom")
    for level in range(5000):
        group = ExceptionGroup(f"level {level}", [group])
    assert deciding_error(group).args == ("bottom",)


def test_an_exception_that_cannot_be_read_is_an_ordinary_failure() -> None:
    """The search itself raises nothing."""

    class Curt(RetryLater):
        def __init__(self) -> None:
            pass

        counts = property(lambda _self: 1 / 0)

    group = ExceptionGroup("both", [Curt(), Curt()])
    assert deciding_error(group) is group


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(NO_ACCOUNT, "failed", "NO_ACCOUNT"), (RetryLater("busy", after=90), "snoozed", None)],
    ids=["reject", "later"],
)
async def test_an_exception_of_a_task_group_decides_the_outcome(
    error: Exception, status: str, code: str | None
) -> None:
    """It is raised by a task that the handler has started."""

    async def part() -> None:
        raise error

    @handler("work")
    async def work(_payload: dict[str, Any], _ctx: Context) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(part)

    run = await run_handler(work)
    assert (run.status, run.request.error_code) == (status, code)
    assert run.request.error == str(error)
    assert run.error is error


async def test_an_invalid_payload_is_recognized_in_a_task_group() -> None:
    """Middleware calls the handler in a task group here."""

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


DECIDING = [
    (NO_ACCOUNT, "NO_ACCOUNT"),
    (PayloadInvalid((("rows", "missing"),)), "VALIDATION_ERROR"),
    (CheckpointInvalid("checkpoint", "cannot be stored"), "INVALID_CHECKPOINT"),
    (MessageInvalid("message", "has no JSON"), "INVALID_MESSAGE"),
    (ResultInvalid("cannot be pickled"), "INVALID_RESULT"),
    (ItemTooLarge("checkpoint", "has no room"), "ITEM_TOO_LARGE"),
    (WorkerCrashed("killed"), "WORKER_CRASHED"),
    (RetryLater("busy", after=90, counts=True), "PROCESSING_FAILED"),
]


@pytest.mark.parametrize(("first", "second"), list(pairwise(DECIDING)))
def test_in_a_group_the_more_final_class_decides(
    first: tuple[Exception, str], second: tuple[Exception, str]
) -> None:
    """In this order, however the members are ordered. Each class has its own code."""
    for (one, code), (other, _) in ((first, second), (second, first)):
        outcome = decided(one)
        assert isinstance(outcome, Fail | Retry)
        assert outcome.code == code
        outcome = decided(ExceptionGroup("both", [one, other]))
        assert isinstance(outcome, Fail | Retry)
        assert outcome.code == first[1]


def test_a_joined_retry_later_has_the_traceback_of_the_longest() -> None:
    """The log shows where it was raised."""
    raised: list[Exception] = []
    for after in (10, 90):
        try:
            raise RetryLater("busy", after=after)  # noqa: TRY301
        except RetryLater as error:
            raised.append(error)
    joined = deciding_error(ExceptionGroup("both", raised))
    assert joined.__traceback__ is raised[1].__traceback__
