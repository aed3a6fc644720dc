"""The attribute Attempts: which attempts it has, and what it must never prevent."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from contract.request_steps import candidate, claimed, put_raw, raw, reclaimed
from streamer_store import (
    AsyncRequest,
    Attempt,
    Claim,
    ClaimLost,
    RequestStatus,
    Rescued,
    Stores,
    Undecodable,
    WorkerLoss,
    codec,
    export_tables,
    import_tables,
    memory_stores,
)
from streamer_store.attempts import MAX_BYTES, MAX_TEXT_BYTES
from streamer_store.values import item_size
from support import START, ManualClock

if TYPE_CHECKING:
    from pathlib import Path

    from streamer_store.values import Item

pytestmark = pytest.mark.anyio
GONE: dict[str, Any] = {"error": "worker w1 is gone", "code": "WORKER_LOST"}
FIRST = Attempt(
    number=1,
    worker_id="w1",
    started=START,
    ended=START + timedelta(seconds=3),
    outcome="retried",
    error_code="BROKE",
    error_class="ValueError",
    error="no rows",
)


async def attempts(stores: Stores) -> tuple[Attempt, ...]:
    return (await stores.requests.get("r1")).attempts


async def failed_once(stores: Stores, clock: ManualClock) -> None:
    """Leave a request RETRYING and due, with FIRST in its list."""
    claim = await claimed(stores)
    clock.advance(3)
    await retry(stores, claim)


async def retry(stores: Stores, claim: Claim, error: str = "no rows", **more: Any) -> None:
    cause = {"error": error, "code": "BROKE", "error_class": "ValueError"}
    await stores.requests.retry(claim, timedelta(), **cause | more)


async def test_each_failed_attempt_is_added(stores: Stores, clock: ManualClock) -> None:
    """The oldest is first. A claim returns the list, as `get` does."""
    await failed_once(stores, clock)
    assert await attempts(stores) == (FIRST,)
    claim = await reclaimed(stores, worker_id="w2")
    assert claim.request.attempts == (FIRST,)
    await stores.requests.fail(claim, "too late", "TIMEOUT")
    second = Attempt(
        number=2,
        worker_id="w2",
        started=clock.now(),
        ended=clock.now(),
        outcome="failed",
        error_code="TIMEOUT",
        error="too late",
    )
    assert await attempts(stores) == (FIRST, second)


async def test_an_outcome_that_is_written_again_is_one_attempt(
    stores: Stores, clock: ManualClock
) -> None:
    """After a lost answer the outcome is sent again, later than the first time."""
    claim = await claimed(stores)
    await retry(stores, claim)
    clock.advance(5)
    await retry(stores, claim)
    assert [attempt.ended for attempt in await attempts(stores)] == [START]


async def test_a_simple_consumer_has_no_worker_id(stores: Stores) -> None:
    """The attempts of `dequeue` are kept, too."""
    await stores.requests.enqueue(AsyncRequest(action="echo", request_id="r1"))
    (claim,) = await stores.requests.dequeue(1)
    await stores.requests.fail(claim, "no", "BROKE")
    (attempt,) = await attempts(stores)
    assert (attempt.worker_id, attempt.outcome, attempt.error_class) == (None, "failed", None)


async def test_success_keeps_the_list(stores: Stores, clock: ManualClock) -> None:
    """A COMPLETED request shows what failed before, and nothing is added."""
    await failed_once(stores, clock)
    await stores.requests.complete(await reclaimed(stores), {"rows": 1})
    assert await attempts(stores) == (FIRST,)


async def test_what_is_no_failure_is_not_added(stores: Stores, clock: ManualClock) -> None:
    """Snoozes, releases and cancellations leave the list as it is."""
    await failed_once(stores, clock)
    await stores.requests.retry(
        await reclaimed(stores), timedelta(), error="busy", code="BUSY", counts=False
    )
    await stores.requests.release(await reclaimed(stores))
    await reclaimed(stores)
    await stores.requests.cancel("r1")
    assert await attempts(stores) == (FIRST,)


@pytest.mark.parametrize("many", [False, True], ids=["redrive", "redrive_many"])
async def test_a_redrive_keeps_the_list(stores: Stores, clock: ManualClock, *, many: bool) -> None:
    """The numbers begin at 1 again, as RetryCount does."""
    await failed_once(stores, clock)
    await stores.requests.fail(await reclaimed(stores), "no", "BROKE")
    if many:
        await stores.requests.redrive_many(["r1"])
    else:
        await stores.requests.redrive("r1")
    assert [attempt.number for attempt in await attempts(stores)] == [1, 2]
    await stores.requests.fail(await reclaimed(stores), "no", "BROKE")
    assert [attempt.number for attempt in await attempts(stores)] == [1, 2, 1]


@pytest.mark.parametrize(
    ("loss", "max_retries", "outcome"),
    [
        (None, 3, "rescued"),
        (None, 0, "failed"),
        (WorkerLoss(), 3, "rescued"),
        (WorkerLoss(), 0, "failed"),
    ],
)
async def test_a_rescue_adds_the_attempt_of_the_lost_worker(
    stores: Stores, clock: ManualClock, loss: WorkerLoss | None, max_retries: int, outcome: str
) -> None:
    """It names that worker, and when the attempt started and was found."""
    await claimed(stores, max_retries=max_retries)
    clock.advance(20)
    await stores.requests.rescue(codec.candidate(await raw(stores)), **GONE, loss=loss)
    expected = Attempt(
        number=1,
        worker_id="w1",
        started=START,
        ended=clock.now(),
        outcome=outcome,
        error_code="WORKER_LOST",
        error="worker w1 is gone",
    )
    assert await attempts(stores) == (expected,)


async def test_a_worker_that_fenced_itself_adds_its_attempt(stores: Stores) -> None:
    """It is not counted, but it has ended."""
    claim = await claimed(stores)
    rescued = Rescued(rescues=1, solo=0, after=timedelta())
    await stores.requests.retry(claim, timedelta(), **GONE, counts=False, rescued=rescued)
    (attempt,) = await attempts(stores)
    assert (attempt.outcome, attempt.error_code) == ("rescued", "WORKER_LOST")


async def test_a_holder_that_was_overtaken_adds_nothing(stores: Stores) -> None:
    """The list is written under the fence, like the rest of the outcome. Proves FENCE-1."""
    claim = await claimed(stores)
    await stores.requests.rescue(codec.candidate(await raw(stores)), **GONE)
    before = await raw(stores)
    with pytest.raises(ClaimLost):
        await stores.requests.fail(claim, "no", "BROKE")
    with pytest.raises(ClaimLost):
        await retry(stores, claim)
    assert await raw(stores) == before


async def test_the_list_is_bounded(stores: Stores) -> None:
    """Ten attempts and 3 KB at most: the newest. Texts are cut at a character."""
    claim = await claimed(stores, max_retries=100)
    for number in range(12):
        await retry(stores, claim, error=f"short {number}")
        claim = await reclaimed(stores)
    assert [attempt.error for attempt in await attempts(stores)] == [
        f"short {number}" for number in range(2, 12)
    ]
    for number in range(12):
        await retry(stores, claim, error=f"{number} " + "ä" * 1000)
        claim = await reclaimed(stores)
    item = await raw(stores)
    size = item_size({"Attempts": item["Attempts"]})
    assert MAX_BYTES - 500 < size <= MAX_BYTES
    *_, last = await attempts(stores)
    assert last.error == "11 " + "ä" * ((MAX_TEXT_BYTES - 3) // 2)
    assert last.number == 24


FOREIGN: dict[str, Any] = {
    "text": {"S": "three attempts"},
    "a number": {"N": "3"},
    "null": {"NULL": True},
    "a map": {"M": {"Number": {"N": "1"}}},
    "a set": {"SS": ["a", "b"]},
    "entries of other types": {"L": [{"S": "a"}, {"NULL": True}, {"L": []}, {"M": {}}]},
    "wrong fields": {
        "L": [
            {"M": {"Number": {"N": "1"}, "Ended": {"S": "soon"}, "Outcome": {"S": "failed"}}},
            {"M": {"Number": {"S": "1"}, "Ended": {"S": "2066-03-14T15:09:26Z"}}},
            {"M": {"Number": {"N": "-1"}, "Ended": {"N": "5"}, "Outcome": {"S": ""}}},
        ]
    },
}


@pytest.mark.parametrize("value", FOREIGN.values(), ids=FOREIGN)
async def test_a_list_that_cannot_be_read_is_no_obstacle(stores: Stores, value: Any) -> None:
    """The request is read, listed, claimed and settled. The next failure writes a list."""
    await stores.requests.enqueue(AsyncRequest(action="echo", request_id="r1"))
    await put_raw(stores, {**await raw(stores), "Attempts": value})
    assert await attempts(stores) == ()
    listed = [request async for request in stores.requests.get_by_status(RequestStatus.PENDING)]
    assert [request.request_id for request in listed] == ["r1"]
    claim = await reclaimed(stores)
    assert (await raw(stores))["Attempts"] == value
    await retry(stores, claim)
    assert [attempt.error for attempt in await attempts(stores)] == ["no rows"]


async def test_what_can_be_read_of_a_list_is_kept(stores: Stores) -> None:
    """Entries with attributes that this release does not know are read without them."""
    entry = {"Number": {"N": "1"}, "Ended": {"S": "2066-03-14T15:09:26Z"}}
    later = {"M": {**entry, "Outcome": {"S": "split"}, "Region": {"S": "eu"}}}
    await stores.requests.enqueue(AsyncRequest(action="echo", request_id="r1"))
    await put_raw(stores, {**await raw(stores), "Attempts": {"L": [{"S": "?"}, later]}})
    await retry(stores, await reclaimed(stores))
    outcomes = [(attempt.number, attempt.outcome) for attempt in await attempts(stores)]
    assert outcomes == [(1, "split"), (1, "retried")]


async def test_a_request_that_cannot_be_decoded_keeps_its_list(
    stores: Stores, clock: ManualClock
) -> None:
    """It is failed without having run, so nothing is added and nothing is lost."""
    await failed_once(stores, clock)
    item: Item = {**await raw(stores), "MaxRetries": {"S": "many"}}
    await put_raw(stores, item)
    with pytest.raises(Undecodable, match="MaxRetries"):
        await stores.requests.claim(await candidate(stores, "r1"), worker_id="w1")
    failed = await raw(stores)
    assert (failed["Status"], failed["Attempts"]) == ({"S": "FAILED"}, item["Attempts"])


async def test_an_export_has_the_attempts(
    stores: Stores, clock: ManualClock, tmp_path: Path
) -> None:
    """An import restores them."""
    await failed_once(stores, clock)
    await export_tables(stores, tmp_path / "e", clock=clock)
    restored = memory_stores(clock=clock)
    await import_tables(restored, tmp_path / "e", clock=clock)
    assert await attempts(restored) == (FIRST,)
