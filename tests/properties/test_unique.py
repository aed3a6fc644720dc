"""For any sequence of steps, a unique key has what a model without any code of the store says."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer_store import (
    AsyncRequest,
    Candidate,
    Claim,
    ClaimLost,
    Enqueued,
    RequestNotPending,
    StoreError,
    codec,
    unique_id,
    writes,
)
from streamer_store.engine import ConditionFailed, Engine, Put
from streamer_store.memory import MemoryEngine
from streamer_store.schema import REQUESTS
from streamer_store.stores import stores_over
from streamer_store.values import Item
from support import ManualClock

PENDING, PROCESSING, RETRYING, SCHEDULED = "PENDING", "PROCESSING", "RETRYING", "SCHEDULED"
COMPLETED, FAILED, CANCELLED = "COMPLETED", "FAILED", "CANCELLED"
WAITING = {PENDING, RETRYING, SCHEDULED}
DELAY, WINDOW, TICK = 10, 30, 7
_LATER = {"delay": timedelta(seconds=DELAY)}
_REPLACES = {"on_conflict": "replace_waiting"}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "enqueue": {},
    "enqueue_for": {"unique_for": timedelta(seconds=WINDOW)},
    "later": _LATER,
    "replace": _REPLACES,
    "replace_later": _LATER | _REPLACES,
}
STEPS = {
    **{name: [name] for name in ARGUMENTS},
    **{name: [name] for name in ("claim", "cancel", "redrive", "delete", "wait", "late_copies")},
    **{name: ["claim", name] for name in ("complete", "fail", "retry")},
    # Sequences of steps that chance alone would seldom draw.
    "window": ["enqueue_for", "claim", "complete", "wait", "enqueue"],
    "next_run": ["claim", "complete", "enqueue"],
    "debounce": ["later", *["wait", "replace_later"] * 8],
}
steps = st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=30)


@dataclass
class Row:
    """The request that has the key. Times are seconds since the beginning."""

    number: int
    status: str = PENDING
    window: float | None = None
    created: float = 0
    due: float | None = None
    retries: int = 0
    ended: float | None = None


class Model:
    """The rules of a key, and the claim of the only worker."""

    def __init__(self) -> None:
        self.now = 0.0
        self.row: Row | None = None
        self.is_held = False

    def enqueue(self, new: Row, step: str) -> Enqueued:
        row = self.row
        if row is None or self._is_free(row):
            self.row, self.is_held = new, False
            return Enqueued.CREATED
        if "on_conflict" not in ARGUMENTS[step] or row.status not in WAITING:
            return Enqueued.EXISTS
        new.created = row.created
        if new.due is not None:
            new.due = min(new.due, new.created + 10 * (new.due - self.now))
            if new.due <= self.now:
                new.due, new.status = None, PENDING
        self.row = new
        return Enqueued.REPLACED

    def _is_free(self, row: Row) -> bool:
        if row.status == COMPLETED:
            assert row.ended is not None
            return row.window is None or self.now >= row.ended + row.window
        return row.status in {FAILED, CANCELLED}

    def change(self, step: str) -> None:
        row = self.row
        if row is None:
            return
        match step:
            case "claim" if row.status in WAITING and (row.due or 0) <= self.now:
                row.status, row.due, self.is_held = PROCESSING, None, True
            case "complete" | "fail" | "retry" if self.is_held and row.status == PROCESSING:
                self._settle(row, step)
            case "cancel" if row.status in {*WAITING, PROCESSING}:
                row.status, row.due = CANCELLED, None
            case "redrive" if row.status in {FAILED, CANCELLED}:
                row.status, row.retries, self.is_held = PENDING, 0, False
            case "delete":
                self.row, self.is_held = None, False

    def _settle(self, row: Row, step: str) -> None:
        self.is_held = False
        row.ended = self.now
        row.status = {"complete": COMPLETED, "fail": FAILED, "retry": RETRYING}[step]
        if step == "retry":
            row.due, row.retries = self.now + DELAY, row.retries + 1


class Recorder:
    """An engine that keeps every put of a request."""

    def __init__(self, inner: Engine) -> None:
        self._inner = inner
        self.puts: list[Put] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def put(self, put: Put) -> None:
        self.puts.append(put)
        await self._inner.put(put)


class World:
    """The key on one engine. Keeps every put, for late copies of it."""

    def __init__(self, engine: Engine, clock: ManualClock, seed: int) -> None:
        self._engine = engine
        self._recorder = Recorder(engine)
        engine_of_stores: Any = self._recorder
        self._stores = stores_over(engine_of_stores, clock=clock, rng=random.Random(seed))
        self._key = f"k{seed}"
        self.request_id = unique_id("echo", self._key)
        self._claim: Claim | None = None

    async def item(self) -> Item | None:
        return await self._engine.get(REQUESTS, self.request_id)

    async def enqueue(self, number: int, **arguments: Any) -> Enqueued | None:
        request = AsyncRequest(action="echo", payload={"n": number})
        stored = await self._stores.requests.enqueue(request, unique_key=self._key, **arguments)
        return stored.enqueued

    async def change(self, step: str) -> None:
        """Take a step. What the request does not allow changes nothing."""
        requests = self._stores.requests
        with suppress(RequestNotPending, ClaimLost):
            if step == "claim":
                self._claim = await requests.claim(await self._candidate())
            elif step in {"complete", "fail", "retry"}:
                claim, self._claim = self._claim, None
                if claim is not None:
                    await self._settle(step, claim)
            elif await self.item() is not None:
                await getattr(requests, step)(self.request_id)

    async def _settle(self, step: str, claim: Claim) -> None:
        match step:
            case "complete":
                await self._stores.requests.complete(claim)
            case "fail":
                await self._stores.requests.fail(claim, "no", "NO")
            case "retry":
                after = timedelta(seconds=DELAY)
                await self._stores.requests.retry(claim, after, error="no", code="NO")

    async def _candidate(self) -> Candidate:
        item = await self.item()
        if item is None:
            raise RequestNotPending("there is none")
        return codec.candidate(item)

    async def send_late_copies(self) -> None:
        """Send every put again. None may take effect while there is an item."""
        for put in self._recorder.puts if await self.item() is not None else []:
            with pytest.raises(ConditionFailed):
                await self._engine.put(put)


def new_row(step: str, number: int, now: float) -> Row:
    """Return the row that a step stores where the key is free."""
    row = Row(number, created=now)
    if "unique_for" in ARGUMENTS[step]:
        row.window = WINDOW
    if "delay" in ARGUMENTS[step]:
        row.status, row.due = SCHEDULED, now + DELAY
    return row


async def play(engines: list[Engine], drawn: list[str]) -> None:
    """Take all steps on the model and on every engine. They must agree after every step."""
    seed = random.SystemRandom().getrandbits(64)
    clock = ManualClock()
    began = clock.now()
    model = Model()
    worlds = [World(engine, clock, seed) for engine in engines]
    for number, step in enumerate(part for name in drawn for part in STEPS[name]):
        if step == "wait":
            clock.advance(TICK)
            model.now += TICK
        elif step == "late_copies":
            for world in worlds:
                await world.send_late_copies()
        elif step in ARGUMENTS:
            expected = model.enqueue(new_row(step, number, model.now), step)
            for world in worlds:
                assert await world.enqueue(number, **ARGUMENTS[step]) is expected, step
        else:
            model.change(step)
            for world in worlds:
                await world.change(step)
        for world in worlds:
            _check(await world.item(), model.row, began)


def _check(item: Item | None, row: Row | None, began: Any) -> None:
    if item is None or row is None:
        assert (item, row) == (None, None)
        return
    request = codec.request(item)

    def since(moment: Any) -> float | None:
        return None if moment is None else (moment - began).total_seconds()

    assert (request.status, request.payload) == (row.status, {"n": row.number})
    assert since(request.created_at) == row.created
    assert since(request.retry_after) == row.due
    assert request.retry_count == row.retries
    window = None if request.unique_for is None else request.unique_for.total_seconds()
    assert window == row.window
    if row.status == COMPLETED and row.window is not None:
        assert request.ttl is not None
        assert row.ended is not None
        assert request.ttl >= (began + timedelta(seconds=row.ended + row.window)).timestamp()


@given(drawn=steps)
@settings(max_examples=500)
def test_a_key_has_one_request_whatever_happens(portal: BlockingPortal, drawn: list[str]) -> None:
    """The answers and the request are those of the model, and late copies change nothing.

    Proves UNIQUE-1.
    """
    portal.call(lambda: play([MemoryEngine()], drawn))


@pytest.mark.local
@given(drawn=steps)
@settings(max_examples=60)
def test_dynamodb_local_agrees(
    portal: BlockingPortal, local_engine: Engine, drawn: list[str]
) -> None:
    """DynamoDB's own engine does the same as the memory engine."""
    portal.call(lambda: play([MemoryEngine(), local_engine], drawn))


def _takes_any_ended_one(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(codec, "window_end", lambda _item: None)


def _copies_take_effect(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(writes, "enqueue", lambda item: Put(table=REQUESTS, item=item))


@pytest.mark.parametrize("broken", [_takes_any_ended_one, _copies_take_effect])
def test_the_model_detects_a_missing_condition(
    broken: Any, portal: BlockingPortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative controls: without the window, and with a put that requires nothing."""
    broken(monkeypatch)
    with pytest.raises((AssertionError, StoreError, pytest.fail.Exception)):
        portal.call(lambda: play([MemoryEngine()], ["window", "next_run", "claim", "late_copies"]))
