"""Lanes are hints: each waiting request is found, whichever release wrote it, and no other runs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal
from hypothesis import given, settings
from hypothesis import strategies as st

from other_writers import Go, OldRelease
from streamer_store import (
    AlreadyExists,
    AsyncRequest,
    Candidate,
    Claim,
    ClaimLost,
    ConcurrentModification,
    Lane,
    NotFound,
    Priority,
    RequestNotPending,
    RequestStatus,
    Stores,
    codec,
)
from streamer_store.engine import Engine, Put
from streamer_store.lanes import LANE_ATTRIBUTES, place_of
from streamer_store.memory import MemoryEngine
from streamer_store.schema import REQUESTS
from streamer_store.stores import stores_over
from streamer_store.times import format_time, parse_time
from streamer_store.transitions import DELAYED, WAITING
from streamer_store.values import Item
from support import ManualClock

KEYS = ("a", "b")
WRITERS = ("ours", "old")
LIMIT = 1000
# What a step answers that its request does not allow.
REFUSALS = (AlreadyExists, ClaimLost, ConcurrentModification, NotFound, RequestNotPending)
STEPS = {
    **{name: [name] for name in ("enqueue", "claim", "cancel", "redrive", "rescue", "schedule")},
    "delete": ["delete"],
    **{name: [name] for name in ("go", "go_retry", "wait", "look", "keep_candidate")},
    **{name: ["claim", name] for name in ("retry", "snooze", "release", "complete", "fail")},
    # Sequences of steps that chance alone would seldom draw.
    "take_over": ["claim", "rescue"],
    "run_again": ["claim", "fail", "redrive"],
    "retry_and_wait": ["claim", "retry", "wait", "wait", "claim"],
    "claim_late": ["keep_candidate", "claim", "snooze", "claim_kept"],
}
steps = st.lists(
    st.tuples(st.sampled_from(sorted(STEPS)), st.sampled_from(KEYS), st.sampled_from(WRITERS)),
    min_size=1,
    max_size=40,
)
priorities = st.fixed_dictionaries(
    {key: st.sampled_from([None, Priority.HIGH, Priority.LOW]) for key in KEYS}
)
_READ_BY = {"ours": WAITING, "old": (RequestStatus.PENDING, RequestStatus.RETRYING)}


class Walk:
    """A few requests, changed by a release with lanes, by one without, and by Go."""

    def __init__(self, engine: Engine, priorities: dict[str, Priority | None]) -> None:
        self._seed = random.SystemRandom().getrandbits(64)
        self._engine = engine
        self._clock = ManualClock()
        self._stores: dict[str, Stores] = {
            "ours": stores_over(engine, clock=self._clock, rng=random.Random(self._seed)),
            "old": stores_over(
                OldRelease(engine), clock=self._clock, rng=random.Random(self._seed + 1)
            ),
        }
        self._go_store = Go(engine)
        self._priorities = priorities
        self._claims: dict[tuple[str, str], Claim] = {}
        self._kept: dict[str, Candidate] = {}

    async def play(self, drawn_steps: list[tuple[str, str, str]]) -> None:
        try:
            for key in KEYS:
                await self._enqueue(key, "ours")
            for step, key, writer in expanded(drawn_steps):
                before = await self._item(key)
                with suppress(*REFUSALS):
                    await getattr(self, f"_{step}")(key, writer)
                after = await self._item(key)
                if writer == "ours" and after is not None and _has_moved(before, after):
                    assert not _is_misplaced(after)
            await self._check()
        finally:
            # Examples on DynamoDB Local share the table, and so the lanes.
            await self._engine.delete_many(REQUESTS, [self._id(key) for key in KEYS])

    def _id(self, key: str) -> str:
        return f"{key}{self._seed}"

    async def _item(self, key: str) -> Item | None:
        return await self._engine.get(REQUESTS, self._id(key))

    async def _enqueue(self, key: str, writer: str) -> None:
        priority = self._priorities[key] if writer == "ours" else None
        made = AsyncRequest(action="echo", request_id=self._id(key), priority=priority)
        await self._stores[writer].requests.enqueue(made)

    async def _delete(self, key: str, writer: str) -> None:
        await self._stores[writer].requests.delete(self._id(key))

    async def _schedule(self, key: str, _: str) -> None:
        """Enqueue a request for later, as a later release does."""
        if await self._item(key) is None:
            priority, at = self._priorities[key], self._clock.now() + timedelta(seconds=10)
            status = RequestStatus.SCHEDULED
            place = place_of(status, priority, created_at=None, retry_after=at)
            assert place is not None
            item: dict[str, Any] = {
                "RequestID": {"S": self._id(key)},
                "Status": {"S": status.value},
                "CreatedAt": {"S": format_time(self._clock.now())},
                "RetryAfter": {"S": format_time(at)},
                "Action": {"S": "echo"},
                "Version": {"S": f"scheduled {key}"},
                **place.values(),
                **({} if priority is None else {"Priority": {"S": priority.value}}),
            }
            await self._engine.put(Put(table=REQUESTS, item=item))

    async def _claim(self, key: str, writer: str) -> None:
        candidate = await self._find(key, writer)
        if candidate is not None:
            await self._claim_candidate(key, writer, candidate)

    async def _claim_candidate(self, key: str, writer: str, candidate: Candidate) -> None:
        before = await self._item(key)
        requests = self._stores[writer].requests
        self._claims[key, writer] = await requests.claim(candidate, worker_id=writer)
        assert before is not None
        assert codec.candidate(before).status in WAITING
        if before["Status"] != {"S": "PENDING"}:
            due_at = parse_time(before["RetryAfter"]["S"])
            assert due_at is None or due_at <= self._clock.now()

    async def _keep_candidate(self, key: str, writer: str) -> None:
        candidate = await self._find(key, writer)
        if candidate is not None:
            self._kept[key] = candidate

    async def _claim_kept(self, key: str, writer: str) -> None:
        """Claim by an entry that is out of date, because the index lags."""
        if key in self._kept:
            await self._claim_candidate(key, writer, self._kept[key])

    async def _retry(self, key: str, writer: str) -> None:
        await self._settle(key, writer, "retry", timedelta(seconds=10))

    async def _snooze(self, key: str, writer: str) -> None:
        await self._settle(key, writer, "retry", timedelta(), counts=False)

    async def _release(self, key: str, writer: str) -> None:
        await self._settle(key, writer, "release")

    async def _complete(self, key: str, writer: str) -> None:
        await self._settle(key, writer, "complete")

    async def _fail(self, key: str, writer: str) -> None:
        await self._settle(key, writer, "fail", "no", "BAD")

    async def _settle(self, key: str, writer: str, call: str, *args: Any, **named: Any) -> None:
        claim = self._claims.get((key, writer))
        if claim is not None:
            await getattr(self._stores[writer].requests, call)(claim, *args, **named)

    async def _rescue(self, key: str, writer: str) -> None:
        item = await self._item(key)
        if item is not None:
            requests = self._stores[writer].requests
            await requests.rescue(codec.candidate(item), error="gone", code="WORKER_LOST")

    async def _cancel(self, key: str, writer: str) -> None:
        await self._stores[writer].requests.cancel(self._id(key))

    async def _redrive(self, key: str, writer: str) -> None:
        await self._stores[writer].requests.redrive(self._id(key))

    async def _go(self, key: str, _: str, *, succeeds: bool = True) -> None:
        """Let Go create the request, or take its next step. Go leaves Version as it is."""
        self._kept.pop(key, None)
        item = await self._item(key)
        if item is None:
            await self._go_store.enqueue(self._id(key), self._clock.now())
        else:
            await self._go_store.step(item, self._clock.now(), succeeds=succeeds)

    async def _go_retry(self, key: str, writer: str) -> None:
        await self._go(key, writer, succeeds=False)

    async def _wait(self, *_: str) -> None:
        self._clock.advance(7)

    async def _look(self, *_: str) -> None:
        """Correct what a worker meets in the lanes up to now."""
        for lane in Lane:
            for entry in await self._lane(lane):
                if entry.misplaced:
                    await self._stores["ours"].requests.correct_lane(entry.request_id)

    async def _find(self, key: str, writer: str) -> Candidate | None:
        """Return the entry by which a worker finds a request that may run, or None."""
        entries: list[Candidate] = []
        if writer == "ours":
            for lane in Lane:
                entries += await self._lane(lane)
            entries += await self._entries(RequestStatus.PENDING)
        else:
            for status in _READ_BY[writer]:
                entries += await self._entries(status)
        for entry in entries:
            waits = entry.status in _READ_BY[writer] and entry.due(self._clock.now())
            if entry.request_id == self._id(key) and waits:
                return entry
        return None

    async def _lane(self, lane: Lane) -> list[Candidate]:
        requests = self._stores["ours"].requests
        page = await requests.due_entries(lane, until=self._clock.now(), limit=LIMIT)
        assert page is not None
        return list(self._own(page.candidates))

    async def _entries(self, status: RequestStatus) -> list[Candidate]:
        page = await self._stores["ours"].requests.entries(status, limit=LIMIT)
        return list(self._own(page.candidates))

    def _own(self, candidates: Any) -> Iterator[Candidate]:
        """Yield those of this example."""
        ids = {self._id(key) for key in KEYS}
        return (entry for entry in candidates if entry.request_id in ids)

    async def _check(self) -> None:
        """After the leader's look and a day, all that waits is found, and nothing else is there."""
        for status in DELAYED:
            for entry in await self._entries(status):
                await self._stores["ours"].requests.correct_lane(entry.request_id)
        self._clock.advance(86_400)
        await self._look()
        in_lanes = [entry for lane in Lane for entry in await self._lane(lane)]
        assert not any(entry.misplaced for entry in in_lanes)
        assert len({entry.request_id for entry in in_lanes}) == len(in_lanes)
        for key in KEYS:
            item = await self._item(key)
            if item is None:
                continue
            waits = codec.candidate(item).status in WAITING
            found = await self._find(key, "ours")
            assert (found is not None) == waits
            if not waits:
                assert not any(name in item for name in LANE_ATTRIBUTES)
            elif found is not None:
                await self._claim_candidate(key, "ours", found)


def expanded(drawn_steps: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    return [(part, key, writer) for step, key, writer in drawn_steps for part in STEPS[step]]


def _has_moved(before: Item | None, after: Item) -> bool:
    """Whether a release of ours has changed the status. Go leaves Version as it is."""
    return "Version" in after and (before or {}).get("Version") != after["Version"]


def _is_misplaced(item: Item) -> bool:
    seen = codec.candidate(item)
    place = place_of(
        seen.status, seen.priority, created_at=seen.created_at, retry_after=seen.retry_after
    )
    return not codec.is_at(item, place)


@given(drawn_steps=steps, priorities=priorities)
@settings(max_examples=400)
def test_every_waiting_request_is_found(
    portal: BlockingPortal,
    drawn_steps: list[tuple[str, str, str]],
    priorities: dict[str, Priority | None],
) -> None:
    """Nothing runs that does not wait, and lanes are right once they were corrected."""
    portal.call(lambda: Walk(MemoryEngine(), priorities).play(drawn_steps))


@pytest.mark.local
@given(drawn_steps=steps, priorities=priorities)
@settings(max_examples=30)
def test_all_that_waits_is_found_on_dynamodb_local(
    portal: BlockingPortal,
    local_engine: Engine,
    drawn_steps: list[tuple[str, str, str]],
    priorities: dict[str, Priority | None],
) -> None:
    portal.call(lambda: Walk(local_engine, priorities).play(drawn_steps))
