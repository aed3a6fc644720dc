"""For any sequence of steps by workers and operators, all engines agree with the model."""

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
from streamer_store.transitions import DELAYED, FOLLOWS
from streamer_store.values import Item, decode
from support import ManualClock

NAMES = ["one", "two", "three"]
WITH_CANDIDATE = {"claim", "rescue"}
WITH_CLAIM = {"progress", "late_progress", "complete", "fail", "retry", "snooze", "release"}
WITHOUT_EITHER = {
    *("enqueue", "enqueue_later", "delete", "read", "wait", "cancel", "redrive", "reschedule"),
    *("cancel_by_update_status", "redrive_by_update_status", "complete_by_update_status"),
}
# Sequences of steps that chance alone would seldom draw.
SEQUENCES = {
    "take": ["read", "claim"],
    "take_over": ["read", "rescue", "read", "claim"],
    "write_twice": ["progress", "late_progress"],
    "settle_twice": ["release", "fail"],
}
STEPS = [
    *sorted(WITH_CANDIDATE | WITH_CLAIM | WITHOUT_EITHER),
    *SEQUENCES,
    "take",
    "take",
    "take_over",
    "read",
]
steps = st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from(NAMES)), max_size=40)


@dataclass
class Party:
    """The memory of one worker or operator, for one engine."""

    name: str
    seen: AsyncRequest | None = None
    candidate: Candidate | None = None
    claim: Claim | None = None


class World:
    """One request on one engine, and the parties that change it."""

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
        """Take a step, and return "ok" or the name of the error."""
        try:
            await self._do(step, self._parties[name])
        except StoreError as error:
            return type(error).__name__
        return "ok"

    async def _do(self, step: str, party: Party) -> None:
        requests, key = self._stores.requests, self._request.request_id
        if step == "read":
            party.seen = await requests.get(key)
            # Not from `entries`: an index may lag, and has the requests of other examples.
            party.candidate = codec.candidate(await self.item() or {})
        elif step in WITH_CANDIDATE:
            await self._with_candidate(step, party)
        elif step in WITH_CLAIM:
            assert party.claim is not None
            await self._with_claim(step, party.claim)
        elif step.startswith("enqueue"):
            delay = timedelta(seconds=DELAY) if step == "enqueue_later" else None
            await requests.enqueue(self._request, delay=delay)
        elif step == "reschedule":
            await requests.reschedule(key, delay=timedelta(seconds=DELAY))
        elif step == "cancel_by_update_status":
            await requests.update_status(key, RequestStatus.CANCELLED, "by an operator")
        elif step == "redrive_by_update_status":
            await requests.update_status(key, RequestStatus.PENDING)
        elif step == "complete_by_update_status":
            await requests.update_status(key, RequestStatus.COMPLETED)
        elif step != "wait":
            await getattr(requests, step)(key)

    async def _with_candidate(self, step: str, party: Party) -> None:
        assert party.seen is not None
        assert party.candidate is not None
        if step == "rescue":
            await self._stores.requests.rescue(party.candidate, error="gone", code="WORKER_LOST")
        else:
            party.claim = await self._stores.requests.claim(party.candidate, worker_id=party.name)

    async def _with_claim(self, step: str, claim: Claim) -> None:
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


async def play(
    engines: list[Engine], drawn_steps: list[tuple[str, str]], *, max_retries: int
) -> None:
    """Take all steps on the model and on every engine. They must agree after every step."""
    # All engines have the same seed, so that their items are equal. Every example has another
    # seed, as examples share tables.
    seed = random.SystemRandom().getrandbits(64)
    clock = ManualClock()
    model = Model(max_retries=max_retries)
    holders = {name: Holder(name) for name in NAMES}
    worlds = [
        World(engine, clock=clock, seed=seed, key=f"r{seed}", max_retries=max_retries)
        for engine in engines
    ]
    before: Item | None = None
    for step, name in [("enqueue", "one"), *expanded(drawn_steps)]:
        if not possible(step, holders[name]):
            continue
        if step == "wait":
            clock.advance(7)
        expected = getattr(model, step)(holders[name])
        assert [await world.do(step, name) for world in worlds] == [expected] * len(worlds), step
        items = [await world.item() for world in worlds]
        assert all(decoded(item) == decoded(items[0]) for item in items), step
        check_item(items[0], model)
        check_transition(before, items[0])
        before = items[0]


def expanded(drawn_steps: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(part, name) for step, name in drawn_steps for part in SEQUENCES.get(step, [step])]


def possible(step: str, holder: Holder) -> bool:
    """Whether the party has the candidate or claim that the step needs."""
    if step in WITH_CANDIDATE:
        return holder.seen is not None
    return step not in WITH_CLAIM or holder.held is not None


def decoded(item: Item | None) -> Any:
    return item and decode({"M": item})


def check_item(item: Item | None, model: Model) -> None:
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


def check_transition(before: Item | None, after: Item | None) -> None:
    """Check that the status changes only as allowed, and only together with the Version.

    A request that waits for its time may be rescheduled: it keeps its status.
    """
    if before is None or after is None:
        return
    old, new = codec.request(before), codec.request(after)
    if old.version == new.version:
        assert old.status is new.status
    else:
        rescheduled = old.status is new.status and new.status in DELAYED
        assert rescheduled or new.status in FOLLOWS[old.status]


@given(drawn_steps=steps, max_retries=st.integers(0, 2))
@settings(max_examples=1000)
def test_the_memory_engine_agrees_with_the_model(
    portal: BlockingPortal, drawn_steps: list[tuple[str, str]], max_retries: int
) -> None:
    """After any steps, the status, the item and the error are those of the model."""
    portal.call(lambda: play([MemoryEngine()], drawn_steps, max_retries=max_retries))


@pytest.mark.local
@given(drawn_steps=steps, max_retries=st.integers(0, 2))
@settings(max_examples=150)
def test_dynamodb_local_agrees_with_the_memory_engine(
    portal: BlockingPortal,
    local_engine: Engine,
    drawn_steps: list[tuple[str, str]],
    max_retries: int,
) -> None:
    """After any steps, the items and the errors of both engines are equal."""
    engines = [MemoryEngine(), local_engine]
    portal.call(lambda: play(engines, drawn_steps, max_retries=max_retries))
