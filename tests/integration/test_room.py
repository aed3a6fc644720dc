"""Checkpoints and progress that do not fit into an item, on the real engine."""

from __future__ import annotations

import random
from typing import Any

import pytest

from streamer_store import ItemTooLarge, RequestStatus, Stores
from streamer_worker import Context, Handler, handler
from streamer_worker.events import Events, ProgressDropped
from support import ManualClock
from unit.worker.benches import DispatchBench
from unit.worker.faulty_engine import FaultyEngine
from unit.worker.harness import Recorder, World

pytestmark = [pytest.mark.anyio, pytest.mark.local]
PAYLOAD = {"rows": "x" * 200_000}


@handler("save")
async def save(_payload: dict[str, Any], ctx: Context) -> None:
    await ctx.progress(0.5, "half")
    await ctx.checkpoint({"rows": "x" * 250_000})


@handler("save_and_go_on")
async def save_and_go_on(payload: dict[str, Any], ctx: Context) -> str:
    try:
        await save(payload, ctx)
    except ItemTooLarge as error:
        return error.field
    return "saved"


@handler("detail")
async def detail(_payload: dict[str, Any], ctx: Context) -> str:
    await ctx.progress(0.5, "report \udcff.pdf", details={"rows": "x" * 250_000})
    return "done"


@pytest.fixture
def world(local_stores: Stores, clock: ManualClock, rng: random.Random) -> World:
    recorder = Recorder()
    return World(
        engine=FaultyEngine(),
        stores=local_stores,
        recorder=recorder,
        events=Events(recorder),
        clock=clock,
        rng=rng,
    )


async def run(world: World, handler: Handler) -> Any:
    claim = await world.claim(handler.action, payload=PAYLOAD, max_retries=5)
    await DispatchBench(world, handler).run(claim)
    return await world.get(claim)


async def test_a_checkpoint_without_room_fails_the_request_at_once(world: World) -> None:
    """It does not fit beside the payload, in this attempt or any other."""
    stored = await run(world, save)
    assert (stored.status, stored.error_code) == (RequestStatus.FAILED, "ITEM_TOO_LARGE")
    assert stored.error.startswith("checkpoint: the request has no room for it")
    assert (stored.payload, stored.checkpoint) == (PAYLOAD, None)


async def test_a_handler_may_continue_without_its_checkpoint(world: World) -> None:
    """The handler gets an error that says why."""
    stored = await run(world, save_and_go_on)
    assert stored.status is RequestStatus.COMPLETED
    assert stored.result == {"data": "checkpoint"}


async def test_details_without_room_are_dropped(world: World) -> None:
    """The result is stored without the progress details."""
    stored = await run(world, detail)
    assert stored.status is RequestStatus.COMPLETED
    assert stored.progress_details is None
    assert world.recorder.of(ProgressDropped) == []  # the outcome's write dropped them
