"""Many writers race for one request. Only DynamoDB's own engine proves that one wins."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest

from streamer_store import (
    AlreadyExists,
    AsyncRequest,
    Candidate,
    Claim,
    ClaimLost,
    ConcurrentModification,
    RequestNotPending,
    RequestStatus,
    StoreError,
    Stores,
    codec,
    open_stores,
)
from streamer_store.schema import WORKERS
from support import ManualClock

pytestmark = [pytest.mark.anyio, pytest.mark.local]

CLIENTS = 4
CLAIMERS = 32
REQUESTS = 200
SETTLED = 40
BOUND = 120


@pytest.fixture
async def clients(
    local_stores: Stores, local_url: str, clock: ManualClock
) -> AsyncIterator[list[Stores]]:
    """Yield stores on the same tables, each with its own client and its own source of ids."""
    prefix = local_stores.engine.table_name(WORKERS).removesuffix(WORKERS.name)
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                open_stores(
                    endpoint_url=local_url,
                    prefix=prefix,
                    clock=clock,
                    rng=random.Random(f"client {number}"),
                )
            )
            for number in range(CLIENTS)
        ]


@pytest.fixture
async def candidates(local_stores: Stores) -> list[Candidate]:
    stored = (
        await local_stores.requests.enqueue_many(
            AsyncRequest(action="echo", payload={"n": n}) for n in range(REQUESTS)
        )
    ).records
    return [seen(request) for request in stored]


def seen(request: AsyncRequest) -> Candidate:
    """Return a candidate as an index without lag shows it."""
    assert request.version
    return Candidate(
        request_id=request.request_id,
        status=request.status,
        seen_version={"S": request.version},
        retry_after=request.retry_after,
    )


class Claimer:
    """Tries to claim every candidate, and keeps its claims and its errors."""

    def __init__(self, stores: Stores, worker_id: str) -> None:
        self._stores = stores
        self.worker_id = worker_id
        self.won: list[Claim] = []
        self.failed: Counter[type[StoreError]] = Counter()

    async def run(self, candidates: list[Candidate]) -> None:
        for candidate in candidates:
            try:
                claim = await self._stores.requests.claim(candidate, worker_id=self.worker_id)
            except StoreError as error:
                self.failed[type(error)] += 1
            else:
                self.won.append(claim)


@pytest.fixture
async def claimers(clients: list[Stores], candidates: list[Candidate]) -> list[Claimer]:
    """Return 32 claimers after their race for 200 requests."""
    claimers = [Claimer(clients[n % CLIENTS], f"worker-{n}") for n in range(CLAIMERS)]
    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as tasks:
            for claimer in claimers:
                tasks.start_soon(claimer.run, candidates)
    return claimers


async def test_each_request_has_exactly_one_winner(
    claimers: list[Claimer], candidates: list[Candidate], local_stores: Stores
) -> None:
    """One of 32 claimers holds each request. The others get an error. Proves CLAIM-1."""
    winners = {claim.request_id: (claimer, claim) for claimer in claimers for claim in claimer.won}
    assert sum(len(claimer.won) for claimer in claimers) == len(winners) == REQUESTS
    losses: Counter[type[StoreError]] = Counter()
    for claimer in claimers:
        losses += claimer.failed
    assert losses == {RequestNotPending: REQUESTS * (CLAIMERS - 1)}
    stored = await local_stores.requests.get_many(candidate.request_id for candidate in candidates)
    for request_id, (claimer, claim) in winners.items():
        request = stored[request_id]
        assert request.status is RequestStatus.PROCESSING
        assert (request.worker_id, request.version) == (claimer.worker_id, claim.version)


async def test_of_outcome_cancel_and_rescue_exactly_one_happens(clients: list[Stores]) -> None:
    """Whatever the order, the request has the status of the call that succeeded."""
    endings: Counter[RequestStatus] = Counter()
    first, *_ = clients
    with anyio.fail_after(BOUND):
        for number in range(SETTLED):
            stored = await first.requests.enqueue(AsyncRequest(action="echo"))
            claim = await first.requests.claim(seen(stored))
            endings[await race_to_end(clients, claim, first=number % 3)] += 1
    assert endings.total() == SETTLED


async def race_to_end(clients: list[Stores], claim: Claim, *, first: int) -> RequestStatus:
    """Complete, cancel and rescue a request at once; return its final status."""
    outcomes: set[RequestStatus] = set()
    key = claim.request_id
    seen_running = codec.candidate(codec.request_item(await clients[0].requests.get(key)))

    async def complete() -> None:
        try:
            await clients[0].requests.complete(claim)
        except ClaimLost:
            return
        outcomes.add(RequestStatus.COMPLETED)

    async def rescue() -> None:
        try:
            outcomes.add(await clients[1].requests.rescue(seen_running, error="gone", code="LOST"))
        except ConcurrentModification:
            return

    async def cancel() -> None:
        try:
            outcomes.add((await clients[2].requests.cancel(key)).status)
        except RequestNotPending:
            return

    racers: list[Callable[[], Coroutine[Any, Any, None]]] = [complete, rescue, cancel]
    async with anyio.create_task_group() as tasks:
        for racer in racers[first:] + racers[:first]:
            tasks.start_soon(racer)
    status = (await clients[0].requests.get(key)).status
    if status is RequestStatus.CANCELLED:
        # A rescue may come first. A rescued request waits, and a waiting one can be cancelled.
        outcomes.discard(RequestStatus.RETRYING)
    assert outcomes == {status}
    return status


async def test_one_of_many_producers_gets_an_id(clients: list[Stores]) -> None:
    """An id that 32 producers use at once is stored once. The others get AlreadyExists."""
    stored: list[AsyncRequest] = []
    refused: list[AlreadyExists] = []

    async def produce(stores: Stores, number: int) -> None:
        request = AsyncRequest(action="echo", request_id="same", payload={"n": number})
        try:
            stored.append(await stores.requests.enqueue(request))
        except AlreadyExists as error:
            refused.append(error)

    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as tasks:
            for number in range(CLAIMERS):
                tasks.start_soon(produce, clients[number % CLIENTS], number)
    assert len(refused) == CLAIMERS - 1
    assert stored == [await clients[0].requests.get("same")]
