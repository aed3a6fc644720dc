"""Many producers race for one unique key. Only DynamoDB's own engine proves that one wins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from contract.request_steps import candidate
from integration.fast import ended
from integration.test_races import BOUND, clients
from streamer_store import (
    AsyncRequest,
    Enqueued,
    EventType,
    OnConflict,
    RequestNotPending,
    RequestStatus,
    StoreError,
    Stores,
    unique_id,
    writes,
)
from streamer_store.engine import Put
from streamer_store.schema import REQUESTS
from streamer_store.values import Item

__all__ = ["clients"]
pytestmark = [pytest.mark.anyio, pytest.mark.local]

PRODUCERS = 50
KEY = "same"
ID = unique_id("echo", KEY)


def request(number: int) -> AsyncRequest:
    return AsyncRequest(action="echo", unique_key=KEY, payload={"n": number})


async def race(
    work: Callable[[Stores, int], Coroutine[Any, Any, None]], clients: list[Stores]
) -> None:
    """Let 50 producers begin at once."""
    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as tasks:
            for number in range(PRODUCERS):
                tasks.start_soon(work, clients[number % len(clients)], number)


async def enqueue_at_once(
    clients: list[Stores], on_conflict: OnConflict = "keep"
) -> list[AsyncRequest]:
    """Return the answers that 50 producers get."""
    answers: list[AsyncRequest] = []

    async def produce(stores: Stores, number: int) -> None:
        answers.append(await stores.requests.enqueue(request(number), on_conflict=on_conflict))

    await race(produce, clients)
    return answers


def counts(answers: list[AsyncRequest]) -> dict[Enqueued | None, int]:
    return Counter(answer.enqueued for answer in answers)


async def run_once(stores: Stores) -> None:
    """Leave a request with the key that is COMPLETED."""
    await stores.requests.enqueue(request(-1))
    await stores.requests.complete(await stores.requests.claim(await candidate(stores, ID)))


async def test_one_of_many_producers_creates_it(clients: list[Stores]) -> None:
    """The others get the request that it has created.

    Proves UNIQUE-1.
    """
    answers = await enqueue_at_once(clients)
    assert counts(answers) == {Enqueued.CREATED: 1, Enqueued.EXISTS: PRODUCERS - 1}
    assert len({str(answer.payload) for answer in answers}) == 1
    assert await clients[0].requests.get(ID) in answers


async def test_one_of_many_producers_starts_the_next_run(clients: list[Stores]) -> None:
    """After the end of the one before. What the winner then subscribes to is not deleted by the
    losers, although they have all seen the old subscription of the same connection.

    Proves UNIQUE-1.
    """
    await run_once(clients[0])
    await clients[0].subscriptions.subscribe("c1", ID, [EventType.COMPLETE])
    answers: list[AsyncRequest] = []

    async def produce(stores: Stores, number: int) -> None:
        stored = await stores.requests.enqueue(request(number))
        if stored.enqueued is Enqueued.CREATED:
            await stores.subscriptions.subscribe("c1", ID, [EventType.ERROR])
        answers.append(stored)

    await race(produce, clients)
    assert counts(answers) == {Enqueued.CREATED: 1, Enqueued.EXISTS: PRODUCERS - 1}
    (subscription,) = await clients[0].subscriptions.get_by_request(ID)
    assert subscription.event_types == {EventType.ERROR}


async def test_many_producers_replace_one_that_waits(clients: list[Stores]) -> None:
    """Each takes effect, and one of them is stored in the end. All have its creation time."""
    first = await clients[0].requests.enqueue(request(-1))
    answers = await enqueue_at_once(clients, "replace_waiting")
    assert counts(answers) == {Enqueued.REPLACED: PRODUCERS}
    assert {answer.created_at for answer in answers} == {first.created_at}
    assert len({answer.version for answer in answers}) == PRODUCERS
    assert await clients[0].requests.get(ID) in answers


@dataclass
class Runs:
    """The runs of the requests with one key, and what should not have happened."""

    done: int = 0
    under_way: int = 0
    violations: list[str] = field(default_factory=list)

    async def work(self, stores: Stores) -> None:
        """Claim, run and settle what waits, as a worker does, until it is cancelled."""
        while True:
            page = await stores.requests.entries(RequestStatus.PENDING, limit=10)
            for entry in page.candidates:
                try:
                    claim = await stores.requests.claim(entry, worker_id="w")
                except StoreError:
                    continue
                self.under_way += 1
                if self.under_way > 1:
                    self.violations.append(f"{self.under_way} runs at once")
                await anyio.sleep(0.01)
                try:
                    await stores.requests.complete(claim)
                except StoreError as error:
                    self.violations.append(f"a run was lost: {error}")
                self.done += 1
                self.under_way -= 1


async def run_beside_producers(clients: list[Stores], each: int) -> tuple[Runs, int]:
    """Let producers and workers race. Return the runs, and how many requests were created."""
    runs = Runs()
    created = 0

    async def produce(stores: Stores, number: int) -> None:
        nonlocal created
        for _ in range(each):
            stored = await stores.requests.enqueue(request(number))
            created += stored.enqueued is Enqueued.CREATED

    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as workers:
            for stores in clients:
                workers.start_soon(runs.work, stores)
            async with anyio.create_task_group() as producers:
                for number in range(8):
                    producers.start_soon(produce, clients[number % len(clients)], number)
            await ended(clients[0], ID)
            workers.cancel_scope.cancel()
    if runs.done != created:
        runs.violations.append(f"{created} were created, {runs.done} have run")
    return runs, created


async def test_a_key_never_runs_twice_at_once(clients: list[Stores]) -> None:
    """While producers and workers race, each request that was created runs once, alone.

    Proves UNIQUE-1.
    """
    runs, created = await run_beside_producers(clients, each=25)
    assert runs.violations == []
    assert created > 1


async def test_the_race_finds_a_missing_condition(
    clients: list[Stores], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A put that requires nothing over what it has seen ended starts runs beside each other.

    This shows that the test above can fail.
    """

    def unconditional(seen: Item, item: Item) -> Put:
        del seen
        return Put(table=REQUESTS, item=item)

    monkeypatch.setattr(writes, "enqueue_over", unconditional)
    runs, _ = await run_beside_producers(clients, each=25)
    assert runs.violations


async def test_a_redrive_and_a_new_request_race(clients: list[Stores]) -> None:
    """One of them starts the key's next run, and the other sees that."""
    stores = clients[0]
    for number in range(20):
        await stores.requests.enqueue(request(number))
        await stores.requests.cancel(ID)
        outcomes: list[str] = []

        async def redrive(outcomes: list[str] = outcomes) -> None:
            try:
                await clients[1].requests.redrive(ID)
            except RequestNotPending:
                return
            outcomes.append("redriven")

        async def produce(number: int = number, outcomes: list[str] = outcomes) -> None:
            stored = await clients[2].requests.enqueue(request(100 + number))
            if stored.enqueued is Enqueued.CREATED:
                outcomes.append("created")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(redrive)
            tasks.start_soon(produce)
        assert len(outcomes) == 1
        await stores.requests.cancel(ID)
