"""The end of a worker: claims in flight, unanswered claims, and its row."""

from __future__ import annotations

import anyio
import pytest

from streamer_store import Claim, RequestStatus
from streamer_worker.events import (
    ClaimReleased,
    RequestFinished,
    RequestStarted,
    StepFailed,
    WorkerStopped,
)
from unit.worker.benches import PollBench
from unit.worker.faulty_engine import moves_to
from unit.worker.harness import Waiting, World, echo, virtual_time

pytestmark = [pytest.mark.anyio, virtual_time]
BROKEN = "ExceptionGroup('claims failed', [RuntimeError('broken')])"


async def _broken(*_: object, **__: object) -> None:
    raise RuntimeError("broken")


async def test_claims_in_flight_at_a_stop_have_five_seconds(world: World) -> None:
    """A claim that is answered within them is released by its worker."""
    request = await world.enqueue(max_retries=0)
    fault = world.engine.hold("update", when=moves_to("PROCESSING"))
    app = world.app([echo])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app.run)
        await fault.wait_reached()
        app.stop()
        await anyio.sleep(4.5)
        fault.let_go()
    assert [event.outcome for event in world.recorder.of(RequestFinished)] == ["released"]
    assert world.recorder.of(ClaimReleased) == []
    stored = await world.get(request)
    assert (stored.status, stored.retry_count) == (RequestStatus.PENDING, 0)


async def test_claims_in_flight_at_a_stop_have_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if their own time limit is longer."""
    monkeypatch.setattr("streamer_worker.intake.claimer._ANSWER_TIMEOUT", 600.0)
    await world.enqueue()
    fault = world.engine.hold("update", when=moves_to("PROCESSING"))
    app = world.app([echo])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app.run)
        await fault.wait_reached()
        began = anyio.current_time()
        app.stop()
    assert anyio.current_time() - began == pytest.approx(5, abs=0.5)
    assert len(world.recorder.of(WorkerStopped)) == 1


async def test_an_unexpected_error_of_a_claim_fails_the_poll_and_nothing_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler that runs is not interrupted, and the next polls claim the request."""
    waiting = Waiting()
    await world.enqueue("wait")
    app = world.app([waiting.handler, echo])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app.run)
        await world.recorder.wait_for(RequestStarted)
        with monkeypatch.context() as patch:
            patch.setattr(world.stores.requests, "claim", _broken)
            await world.enqueue()
            (failed,) = await world.recorder.wait_for(StepFailed)
            assert (failed.loop, repr(failed.error)) == ("poll", BROKEN)
        await world.recorder.wait_for(RequestFinished)
        waiting.go.set()
        await world.recorder.wait_for(RequestFinished, 2)
        app.stop()
    assert [event.outcome for event in world.recorder.of(RequestFinished)] == ["completed"] * 2
    assert world.recorder.of(ClaimReleased) == []


async def test_the_newest_hundred_unanswered_claims_are_released(
    world: World, bench: PollBench
) -> None:
    """Older ones are left to the rescuer. Claims that were not won are left alone."""
    world.engine.fail("update", when=moves_to("PROCESSING"), times=150, lands=True)
    requests = []
    for _ in range(150):
        requests.append(await world.enqueue(max_retries=0))
        candidate = await world.candidate(requests[-1])
        assert await bench.claimer.claim(candidate, bench.claimer.reserve(candidate)) is None
    await bench.claimer.release_all_unanswered()
    stored = [(await world.get(request)).status for request in requests]
    assert stored == [RequestStatus.PROCESSING] * 50 + [RequestStatus.PENDING] * 100
    assert len(world.recorder.of(ClaimReleased)) == 100


async def test_the_row_is_kept_while_requests_are_held(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A late write may still succeed. Others find the row, see no heartbeat, and rescue.

    Proves DRAIN-2.
    """
    waiting = Waiting()
    await world.enqueue("wait")
    app = world.app([waiting.handler], drain_timeout=1.0)
    landed = anyio.Event()

    async def endless(_claim: Claim, **_: object) -> None:
        with anyio.CancelScope(shield=True):
            await landed.wait()

    monkeypatch.setattr(world.stores.requests, "release", endless)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app.run)
        await world.recorder.wait_for(RequestStarted)
        app.stop()
        await anyio.sleep(600)
        held = await world.stores.workers.list()
        landed.set()
    assert len(held) == 1
    assert [row.worker_id for row in await world.stores.workers.list()] == [held[0].worker_id]


async def test_the_row_is_removed_when_nothing_is_held(world: World) -> None:
    """Nobody has to wait for a lease."""
    waiting = Waiting()
    await world.enqueue("wait")
    app = world.app([waiting.handler], drain_timeout=1.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app.run)
        await world.recorder.wait_for(RequestStarted)
        app.stop()
    assert await world.stores.workers.list() == []
