"""Whatever several workers and operators do, every engine and the design agree."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal
from hypothesis import given, settings
from hypothesis import strategies as st

from properties.model import DELAY, PROCESSING, WAITING, Holder, Model
from streamer_store import (
    AsyncRequest,
    Candidate,
    Claim,
    RequestStatus,
    StoreError,
    Stores,
    codec,
)
from streamer_store.engine import Engine
from streamer_store.memory import MemoryEngine
from streamer_store.schema import REQUESTS
from streamer_store.stores import stores_over
from streamer_store.transitions import FOLLOWS
from streamer_store.values import Item, decode
from support import ManualClock

NAMES = ["one", "two", "three"]
BY_SIGHT = {"claim", "rescue"}
BY_CLAIM = {"progress", "late_progress", "complete", "fail", "retry", "snooze", "release"}
BY_ANYBODY = {
    *("enqueue", "delete", "look", "cancel", "cancel_by_hand", "redrive", "redrive_by_hand"),
    *("complete_by_hand", "wait"),
}
# Steps that say more together: by chance alone they would seldom meet.
TOGETHER = {
    "take": ["look", "claim"],
    "take_over": ["look", "rescue", "look", "claim"],
    "write_twice": ["progress", "late_progress"],
    "settle_twice": ["release", "fail"],
}
STEPS = [*sorted(BY_SIGHT | BY_CLAIM | BY_ANYBODY), *TOGETHER, "take", "take", "take_over", "look"]
steps = st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from(NAMES)), max_size=40)


@dataclass
class Party:
    """What one worker or operator remembers, of one engine."""

    name: str
    seen: AsyncRequest | None = None
    candidate: Candidate | None = None
    claim: Claim | None = None


class World:
    """One request on one engine, and the parties that work on it."""

    def __init__(
        self, engine: Engine, *, clock: ManualClock, seed: int, key: str, max_retries: int
    ) -> None:
        self._engine = engine
        self._stores: Stores = stores_over(engine, clock=clock, rng=random.Random(seed))
        self._request = AsyncRequest(action="echo", request_id=key, max_retries=max_retries)
        self._parties = {name: Party(name) for name in NAMES}

    async def item(self) -> Item | None:
        return await self._engine.get(REQUESTS, self._request.request_id)

    async def do(self, step: str, name: str) -> str:
        """Take the step; return "ok" or the name of the error."""
        try:
            await self._do(step, self._parties[name])
        except StoreError as error:
            return type(error).__name__
        return "ok"

    async def _do(self, step: str, party: Party) -> None:
        requests, key = self._stores.requests, self._request.request_id
        if step == "look":
            party.seen = await requests.get(key)
            # Not from `entries`: an index may lag, and shows other examples' requests.
            party.candidate = codec.candidate(await self.item() or {})
        elif step in BY_SIGHT:
            await self._by_sight(step, party)
        elif step in BY_CLAIM:
            assert party.claim is not None
            await self._by_claim(step, party.claim)
        elif step == "enqueue":
            await requests.enqueue(self._request)
        elif step == "cancel_by_hand":
            await requests.update_status(key, RequestStatus.CANCELLED, "by hand")
        elif step == "redrive_by_hand":
            await requests.update_status(key, RequestStatus.PENDING)
        elif step == "complete_by_hand":
            await requests.update_status(key, RequestStatus.COMPLETED)
        elif step != "wait":
            await getattr(requests, step)(key)

    async def _by_sight(self, step: str, party: Party) -> None:
        assert party.seen is not None
        assert party.candidate is not None
        if step == "rescue":
            await self._stores.requests.rescue(party.candidate, error="gone", code="WORKER_LOST")
        else:
            party.claim = await self._stores.requests.claim(party.candidate, worker_id=party.name)

    async def _by_claim(self, step: str, claim: Claim) -> None:
        requests = self._stores.requests
        match step:
            case "progress":
                await requests.update_progress(claim, 0.25, f"write {claim.write_seq}", {"n": 1})
            case "late_progress":
                claim.write_seq = max(claim.write_seq - 1, 0)
                await requests.update_progress(claim, 0.75, "late")
            case "complete":
                await requests.complete(claim, {"by": claim.request.worker_id})
            case "fail":
                await requests.fail(claim, "bad", "BAD")
            case "retry":
                await requests.retry(claim, timedelta(seconds=DELAY), error="bad", code="BAD")
            case "snooze":
                await requests.retry(claim, timedelta(seconds=DELAY), counts=False)
            case "release":
                await requests.release(claim)


async def play(engines: list[Engine], taken: list[tuple[str, str]], *, max_retries: int) -> None:
    """Take all steps on the model and on every engine; they must agree after each."""
    # The same seed everywhere: the items are equal to the letter. Fresh for each example, since
    # examples share tables.
    seed = random.SystemRandom().getrandbits(64)
    clock = ManualClock()
    model = Model(max_retries=max_retries)
    holders = {name: Holder(name) for name in NAMES}
    worlds = [
        World(engine, clock=clock, seed=seed, key=f"r{seed}", max_retries=max_retries)
        for engine in engines
    ]
    before: Item | None = None
    for step, name in [("enqueue", "one"), *unfolded(taken)]:
        if not possible(step, holders[name]):
            continue
        if step == "wait":
            clock.advance(7)
        expected = getattr(model, step)(holders[name])
        assert [await world.do(step, name) for world in worlds] == [expected] * len(worlds), step
        items = [await world.item() for world in worlds]
        assert all(plain(item) == plain(items[0]) for item in items), step
        agrees(items[0], model)
        moved_rightly(before, items[0])
        before = items[0]


def unfolded(taken: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(each, name) for step, name in taken for each in TOGETHER.get(step, [step])]


def possible(step: str, holder: Holder) -> bool:
    """Whether this party has what the step needs."""
    if step in BY_SIGHT:
        return holder.seen is not None
    return step not in BY_CLAIM or holder.held is not None


def plain(item: Item | None) -> Any:
    return item and decode({"M": item})


def agrees(item: Item | None, model: Model) -> None:
    row = model.row
    if item is None or row is None:
        assert (item, row) == (None, None)
        return
    request = codec.request(item)
    assert request.status == row.status
    assert request.retry_count == row.retries
    assert request.worker_id == row.worker
    assert (request.retry_after is not None) == (row.due is not None)
    if row.status == PROCESSING:
        assert request.write_seq == row.written
    if row.status in WAITING:
        assert request.worker_id is None


def moved_rightly(before: Item | None, after: Item | None) -> None:
    """A status follows only where it may, and exactly then the Version is another."""
    if before is None or after is None:
        return
    old, new = codec.request(before), codec.request(after)
    assert (old.status is not new.status) == (old.version != new.version)
    assert old.status is new.status or new.status in FOLLOWS[old.status]


@given(taken=steps, max_retries=st.integers(0, 2))
@settings(max_examples=1000)
def test_memory_does_as_the_design_says(
    portal: BlockingPortal, taken: list[tuple[str, str]], max_retries: int
) -> None:
    """After any steps, the status, the answer and the error are those of the model."""
    portal.call(lambda: play([MemoryEngine()], taken, max_retries=max_retries))


@pytest.mark.local
@given(taken=steps, max_retries=st.integers(0, 2))
@settings(max_examples=150)
def test_dynamodb_local_does_as_memory(
    portal: BlockingPortal,
    local_engine: Engine,
    taken: list[tuple[str, str]],
    max_retries: int,
) -> None:
    """After any steps, the items in memory and in DynamoDB are equal, and so are the errors."""
    engines = [MemoryEngine(), local_engine]
    portal.call(lambda: play(engines, taken, max_retries=max_retries))
