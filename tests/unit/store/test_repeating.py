"""Long operations outlast a time in which DynamoDB throttles. On trio's virtual clock."""

from __future__ import annotations

import random
from pathlib import Path

import anyio
import pytest
from trio.testing import MockClock

from streamer_store import AsyncRequest, StoreUnavailable, export_tables, import_tables
from streamer_store.repeating import repeat
from streamer_store.stores import stores_over
from support import ManualClock
from unit.worker.faulty_engine import FaultyEngine

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize(
        "anyio_backend", [("trio", {"clock": MockClock(autojump_threshold=0)})], ids=["trio"]
    ),
]


@pytest.mark.parametrize("failures", [0, 1, 5])
async def test_a_call_is_repeated_until_dynamodb_answers(failures: int) -> None:
    """After growing pauses of about half a minute in all, at most."""
    calls = 0

    async def call() -> str:
        nonlocal calls
        calls += 1
        if calls <= failures:
            raise StoreUnavailable("away")
        return "answer"

    started = anyio.current_time()
    assert await repeat(call, rng=random.Random(7)) == "answer"
    assert calls == failures + 1
    assert (anyio.current_time() > started) is bool(failures)
    assert anyio.current_time() - started < 32


async def test_the_sixth_error_is_raised() -> None:
    calls = 0

    async def call() -> None:
        nonlocal calls
        calls += 1
        raise StoreUnavailable(f"away {calls}")

    with pytest.raises(StoreUnavailable, match="away 6"):
        await repeat(call, rng=random.Random(7))


async def test_throttled_exports_and_imports_go_on(
    tmp_path: Path, clock: ManualClock, rng: random.Random
) -> None:
    """Each kind of call fails some times, and the items are the same in the end."""
    source, copy = FaultyEngine(), FaultyEngine()
    first = stores_over(source, clock=clock, rng=rng)
    second = stores_over(copy, clock=clock, rng=rng)
    await first.requests.enqueue_many(AsyncRequest(action="a") for _ in range(500))
    await second.requests.enqueue(AsyncRequest(action="a", request_id="there"))
    scans = source.fail("scan", times=3)
    exported = await export_tables(first, tmp_path / "export", clock=clock)
    faults = [copy.fail(operation, times=3) for operation in ("get_many", "put")]
    imported = await import_tables(second, tmp_path / "export", clock=clock)
    assert (exported.items["requests"], imported.written) == (500, 500)
    faults += [copy.fail("put_many", times=3), scans]
    await second.requests.delete("there")
    await second.requests.delete_many(
        [request.request_id async for request in first.requests.get_by_status("PENDING")]  # type: ignore[arg-type]
    )
    imported = await import_tables(second, tmp_path / "export", clock=clock)
    assert imported.written == 500
    assert [fault.times for fault in faults] == [0] * 4
