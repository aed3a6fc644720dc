"""Unprocessed entries of batches are sent again. moto and DynamoDB Local process all entries.

The tests run on trio's virtual clock, so the pauses take no time.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any, cast

import anyio
import pytest
from trio.testing import MockClock

from streamer_store import StoreUnavailable, TableNames
from streamer_store.dynamo.engine import DynamoEngine
from streamer_store.schema import REQUESTS

pytestmark = pytest.mark.anyio

TABLE = "t_requests"
MANY = [f"r{n:03}" for n in range(230)]
# The longest pause before each attempt after the first, in seconds.
BOUNDS = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]

Leave = Callable[[int, list[Any]], int]


def nothing(_: int, __: list[Any]) -> int:
    return 0


def everything(_: int, entries: list[Any]) -> int:
    return len(entries)


def first_calls(calls: int, entries: int) -> Leave:
    """Leave `entries` entries of each of the first `calls` calls unprocessed."""
    return lambda call, batch: min(entries, len(batch)) if call < calls else 0


class Client:
    """A client that leaves the last entries of some batches unprocessed."""

    def __init__(self, leave: Leave) -> None:
        self._leave = leave
        self.batches: list[list[Any]] = []
        self.times: list[float] = []
        self.done: list[Any] = []
        self.consistent: list[Any] = []

    async def batch_write_item(self, *, RequestItems: dict[str, Any]) -> Any:  # noqa: N803
        left = await self._take(RequestItems[TABLE])
        return {"UnprocessedItems": {TABLE: left} if left else {}}

    async def batch_get_item(self, *, RequestItems: dict[str, Any]) -> Any:  # noqa: N803
        table_request = RequestItems[TABLE]
        self.consistent.append(table_request["ConsistentRead"])
        before = len(self.done)
        left = await self._take(table_request["Keys"])
        answer: dict[str, Any] = {"Responses": {TABLE: self.done[before:]}, "UnprocessedKeys": {}}
        if left:
            answer["UnprocessedKeys"] = {TABLE: {"Keys": left, "ConsistentRead": True}}
        return answer

    async def _take(self, entries: list[Any]) -> list[Any]:
        await anyio.lowlevel.checkpoint()
        cut = len(entries) - self._leave(len(self.batches), entries)
        self.batches.append(entries)
        self.times.append(anyio.current_time())
        self.done += entries[:cut]
        return entries[cut:]

    @property
    def pauses(self) -> list[float]:
        return [later - before for before, later in itertools.pairwise(self.times)]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


def engine_on(client: Client, seed: int = 7) -> DynamoEngine:
    return DynamoEngine(
        client=cast("Any", client), names=TableNames.from_prefix("t_"), rng=random.Random(seed)
    )


async def delete_many(engine: DynamoEngine, keys: list[str]) -> None:
    await engine.delete_many(REQUESTS, keys)


async def put_many(engine: DynamoEngine, keys: list[str]) -> None:
    await engine.put_many(REQUESTS, [{"RequestID": {"S": key}} for key in keys])


async def get_many(engine: DynamoEngine, keys: list[str]) -> None:
    await engine.get_many(REQUESTS, keys)


def entries_of(call: Any, keys: list[str]) -> list[Any]:
    item_keys = [{"RequestID": {"S": key}} for key in keys]
    if call is get_many:
        return item_keys
    if call is put_many:
        return [{"PutRequest": {"Item": key}} for key in item_keys]
    return [{"DeleteRequest": {"Key": key}} for key in item_keys]


CALLS = pytest.mark.parametrize("call", [delete_many, get_many, put_many])


@CALLS
async def test_everything_is_sent_once_in_batches_of_the_allowed_size(call: Any) -> None:
    """A call has at most 25 writes or 100 reads, and there are no pauses between the calls."""
    client = Client(nothing)
    await call(engine_on(client), MANY)
    assert client.done == entries_of(call, MANY)
    size = 100 if call is get_many else 25
    assert [len(batch) for batch in client.batches][:-1] == [size] * ((len(MANY) - 1) // size)
    assert client.pauses == [0] * len(client.pauses)


@CALLS
async def test_unprocessed_entries_are_sent_again_until_none_is_left(call: Any) -> None:
    """Only unprocessed entries are sent again, and every entry is processed once."""
    client = Client(first_calls(3, 7))
    await call(engine_on(client), MANY[:20])
    assert sorted(map(str, client.done)) == sorted(map(str, entries_of(call, MANY[:20])))
    assert [len(batch) for batch in client.batches] == [20, 7, 7, 7]


async def test_reads_return_the_items_of_all_attempts() -> None:
    """Every attempt is a consistent read."""
    client = Client(first_calls(4, 60))
    items = await engine_on(client).get_many(REQUESTS, MANY)
    assert sorted(item["RequestID"]["S"] for item in items) == MANY
    assert client.consistent == [True] * len(client.batches)


@CALLS
async def test_ten_attempts_in_vain_raise_store_unavailable(call: Any) -> None:
    """The error names the operation, the table, and the number of unprocessed entries."""
    client = Client(everything)
    with pytest.raises(StoreUnavailable, match="5 entries left after 10 attempts") as caught:
        await call(engine_on(client), MANY[:5])
    assert len(client.batches) == 10
    expected = "BatchGetItem" if call is get_many else "BatchWriteItem"
    assert (caught.value.operation, caught.value.table) == (expected, TABLE)


@CALLS
async def test_later_batches_are_not_sent_after_a_failure(call: Any) -> None:
    """The first batch that fails ends the call."""
    client = Client(everything)
    with pytest.raises(StoreUnavailable):
        await call(engine_on(client), MANY)
    assert all(batch == client.batches[0] for batch in client.batches)


@pytest.mark.parametrize("seed", range(5))
async def test_pauses_grow_up_to_a_limit(seed: int) -> None:
    """A pause is between 0 and a limit that doubles, up to five seconds."""
    client = Client(everything)
    with pytest.raises(StoreUnavailable):
        await delete_many(engine_on(client, seed), MANY[:5])
    assert len(client.pauses) == len(BOUNDS)
    assert all(0 < pause <= bound for pause, bound in zip(client.pauses, BOUNDS, strict=True))


async def test_pauses_fill_their_range() -> None:
    """Over many runs, the longest pauses are close to their limits."""
    longest = [0.0] * len(BOUNDS)
    for seed in range(60):
        client = Client(everything)
        with pytest.raises(StoreUnavailable):
            await delete_many(engine_on(client, seed), MANY[:1])
        longest = [max(pair) for pair in zip(longest, client.pauses, strict=True)]
    assert all(pause > 0.8 * bound for pause, bound in zip(longest, BOUNDS, strict=True)), longest


async def test_pauses_come_from_the_engines_own_generator() -> None:
    """Two engines with different seeds wait for different times."""
    pauses = []
    for seed in (1, 1, 2):
        client = Client(first_calls(4, 1))
        await delete_many(engine_on(client, seed), MANY[:5])
        pauses.append(client.pauses)
    assert pauses[0] == pytest.approx(pauses[1])
    assert pauses[0] != pytest.approx(pauses[2])


async def test_the_last_attempt_is_not_followed_by_a_pause() -> None:
    """The error is raised immediately."""
    client = Client(everything)
    with pytest.raises(StoreUnavailable):
        await delete_many(engine_on(client), MANY[:5])
    assert anyio.current_time() == client.times[-1]


async def test_every_batch_has_ten_attempts() -> None:
    """Attempts of one batch do not count for the next."""
    client = Client(lambda call, batch: len(batch) if call % 9 < 8 else 0)
    await delete_many(engine_on(client), MANY[:100])
    assert client.done == entries_of(delete_many, MANY[:100])
    assert len(client.batches) == 36


@pytest.mark.parametrize("call", [delete_many, get_many])
async def test_a_key_is_never_twice_in_a_batch(call: Any) -> None:
    """DynamoDB refuses a batch with a repeated key."""
    client = Client(nothing)
    await call(engine_on(client), ["a", "b", "a"])
    assert client.done == entries_of(call, ["a", "b"])


@CALLS
async def test_no_keys_make_no_call(call: Any) -> None:
    """DynamoDB refuses an empty batch."""
    client = Client(nothing)
    await call(engine_on(client), [])
    assert client.batches == []
