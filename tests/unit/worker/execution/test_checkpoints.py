"""Writing a handler's checkpoints."""

from __future__ import annotations

from typing import Any

import pytest

from streamer_store import ClaimLost, ItemTooLarge, StoreUnavailable, ValidationError
from streamer_worker.events import CheckpointDelayed
from unit.worker.execution.progress_bench import bench_for
from unit.worker.faulty_engine import is_progress
from unit.worker.harness import World, virtual_time

pytestmark = pytest.mark.anyio


async def test_a_checkpoint_is_stored_when_it_returns(world: World) -> None:
    """One write has the checkpoint and the progress that was reported before."""
    async with bench_for(world) as bench:
        await bench.report(0.25, "Reading")
        world.engine.calls.clear()
        await bench.writer.checkpoint({"row": 250})
        assert world.engine.calls == ["update"]
        assert await bench.writer.close() is None
    stored = await world.get(bench.claim)
    assert (stored.checkpoint, stored.progress) == ({"row": 250}, 0.25)


@virtual_time
@pytest.mark.parametrize("lands", [False, True])
async def test_a_checkpoint_waits_for_the_table(world: World, *, lands: bool) -> None:
    """Each failure is emitted, and the handler continues once the checkpoint is written."""
    error = StoreUnavailable("away")
    async with bench_for(world) as bench:
        world.engine.fail("update", error, when=is_progress, times=3, lands=lands)
        await bench.writer.checkpoint([1])
    delayed = CheckpointDelayed(request_id=bench.claim.request_id, error=error)
    assert world.recorder.of(CheckpointDelayed) == [delayed] * 3
    assert (await world.get(bench.claim)).checkpoint == [1]


async def test_a_checkpoint_is_written_without_progress_that_has_no_room(world: World) -> None:
    """If there is no room for both, the progress is dropped."""
    async with bench_for(world) as bench:
        await bench.report(0.5, "half")
        too_much = ItemTooLarge("item", "too large")
        world.engine.fail("update", too_much, when=lambda update: "ProgressMessage" in update.sets)
        await bench.writer.checkpoint("here")
    stored = await world.get(bench.claim)
    assert (stored.checkpoint, stored.progress) == ("here", 0)


@pytest.mark.parametrize("value", [object(), {"x": set()}, float("nan"), "x" * 450_000])
async def test_an_invalid_checkpoint_is_raised_in_the_handler(value: Any, world: World) -> None:
    """The previous checkpoint is kept."""
    async with bench_for(world) as bench:
        await bench.writer.checkpoint(1)
        with pytest.raises(ValidationError):
            await bench.writer.checkpoint(value)
    assert (await world.get(bench.claim)).checkpoint == 1


async def test_a_checkpoint_of_a_lost_claim_raises(world: World) -> None:
    """It raises even when the handler shields itself from cancellation."""
    async with bench_for(world) as bench:
        await world.stores.requests.delete(bench.claim.request_id)
        with pytest.raises(ClaimLost):
            await bench.writer.checkpoint(1)
        assert len(bench.lost) == 1
