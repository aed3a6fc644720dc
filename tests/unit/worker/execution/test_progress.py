"""Writing and pushing a handler's progress."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from streamer_store import (
    AccessDenied,
    Cancelled,
    ClaimLost,
    ItemTooLarge,
    Progress,
    RequestStatus,
    StoreError,
    StoreUnavailable,
    TableMissing,
    ValidationError,
)
from streamer_worker.events import ProgressDropped, ProgressWritten, StepFailed
from streamer_worker.handlers.latest_progress import LatestProgress
from streamer_worker.handlers.worker_channel import ProgressUpdate
from unit.worker.execution.progress_bench import bench_for
from unit.worker.faulty_engine import is_progress
from unit.worker.harness import World, virtual_time

pytestmark = pytest.mark.anyio


async def test_progress_is_in_the_table_soon(world: World) -> None:
    """Fraction, message and details are written, and the claim is kept."""
    async with bench_for(world) as bench:
        await bench.report(0.25, "Reading", {"rows": 3})
        await world.recorder.wait_for(ProgressWritten)
        stored = await world.get(bench.claim)
    assert (stored.progress, stored.progress_message) == (0.25, "Reading")
    assert stored.progress_details == {"rows": 3}
    assert stored.status is RequestStatus.PROCESSING


@virtual_time
async def test_arguments_that_are_left_out_keep_their_value(world: World) -> None:
    """A later report without a message keeps the message."""
    async with bench_for(world) as bench:
        await bench.report(0.25, "Reading", {"rows": 3})
        await world.recorder.wait_for(ProgressWritten)
        await bench.report(0.5)
        await world.recorder.wait_for(ProgressWritten, 2)
        stored = await world.get(bench.claim)
    assert (stored.progress, stored.progress_message) == (0.5, "Reading")
    assert stored.progress_details == {"rows": 3}


@virtual_time
async def test_a_tight_loop_writes_once_a_second(world: World) -> None:
    """A thousand reports in ten seconds are ten writes of the newest progress, and 100 pushes."""
    async with bench_for(world) as bench:
        await bench.report(0.0, "0")
        await anyio.wait_all_tasks_blocked()
        for number in range(1, 1000):
            await anyio.sleep(0.01)
            await bench.report(number / 1000, str(number))
        left = await bench.writer.close()
    writes = world.recorder.of(ProgressWritten)
    assert len(writes) == 10
    assert 80 <= 1000 - sum(write.reports for write in writes) <= 100  # those of the last second
    assert left == Progress(0.999, "999")
    assert 90 <= len(bench.pushed) <= 100


@virtual_time
async def test_no_progress_is_left_when_all_is_written(world: World) -> None:
    """The outcome is then written without progress."""
    async with bench_for(world) as bench:
        await bench.report(0.5)
        await world.recorder.wait_for(ProgressWritten)
        assert await bench.writer.close() is None
    assert bench.pushed == [Progress(0.5)]


@virtual_time
async def test_a_handler_that_ends_at_once_has_one_write(world: World) -> None:
    """The outcome is written with the last progress, and no progress is pushed."""
    async with bench_for(world) as bench:
        world.engine.calls.clear()
        await bench.report(0.1)
        await bench.report(0.9, "almost")
        await anyio.sleep(0.05)
        assert await bench.writer.close() == Progress(0.9, "almost")
    assert (world.engine.calls, bench.pushed) == ([], [])


async def test_a_handler_that_never_reports_costs_nothing(world: World) -> None:
    """No task, no write, and no progress with the outcome."""
    async with bench_for(world) as bench:
        world.engine.calls.clear()
        assert await bench.writer.close() is None
    assert world.engine.calls == []


@virtual_time
async def test_a_smaller_fraction_is_ignored_without_reset(world: World) -> None:
    """Its message is kept. The fraction of an earlier attempt counts, too."""
    async with bench_for(world, progress=0.4) as bench:
        await bench.report(0.2, "again")
        assert (await bench.writer.close()) == Progress(None, "again")
    async with bench_for(world) as bench:
        await bench.report(0.6)
        await bench.report(0.5, "less")
        await bench.report(0.1, reset=True)
        await bench.report(0.05)
        await bench.report(0.2)
        await bench.report(0.15)
        assert (await bench.writer.close()) == Progress(0.2, "less")


def test_progress_that_changes_nothing_is_not_written() -> None:
    """A smaller fraction without a message triggers no write."""
    latest_progress = LatestProgress(0.5)
    assert not latest_progress.report(ProgressUpdate(0.4))
    assert not latest_progress.report(ProgressUpdate())
    assert latest_progress.updates == 0
    assert latest_progress.report(ProgressUpdate(0.5))


def test_details_are_copied_when_they_are_reported() -> None:
    """The handler may change its mapping later."""
    latest_progress = LatestProgress(0.0)
    details = {"rows": [1]}
    latest_progress.report(ProgressUpdate(details=details))
    details["rows"].append(2)
    assert latest_progress.newest() == (1, Progress(None, None, {"rows": [1]}))


@virtual_time
async def test_writes_are_sent_one_at_a_time_in_order(world: World) -> None:
    """Progress that is reported during a write waits for the next write."""
    async with bench_for(world) as bench:
        fault = world.engine.hold("update", when=is_progress)
        await bench.report(0.1, "first")
        await fault.wait_reached()
        world.engine.calls.clear()
        await bench.report(0.2, "second")
        await anyio.sleep(5)
        assert world.engine.calls == []
        fault.let_go()
        await world.recorder.wait_for(ProgressWritten, 2)
    assert (await world.get(bench.claim)).progress_message == "second"


@virtual_time
async def test_a_checkpoint_waits_for_progress_under_way(world: World) -> None:
    """Otherwise the progress could arrive after it, and be refused as a late copy.

    Proves FENCE-2.
    """
    async with bench_for(world) as bench, anyio.create_task_group() as tasks:
        fault = world.engine.hold("update", when=is_progress)
        await bench.report(0.1, "first")
        await fault.wait_reached()
        world.engine.calls.clear()
        tasks.start_soon(bench.writer.checkpoint, {"row": 1})
        await anyio.sleep(5)
        assert world.engine.calls == []
        fault.let_go()
    stored = await world.get(bench.claim)
    assert (stored.progress_message, stored.checkpoint) == ("first", {"row": 1})


@virtual_time
@pytest.mark.parametrize("lands", [False, True])
@pytest.mark.parametrize(
    "error", [StoreUnavailable("away"), AccessDenied("no policy"), TableMissing("no table")]
)
async def test_an_outage_loses_no_progress(error: StoreError, world: World, *, lands: bool) -> None:
    """The failure is emitted once, the handler continues, and the newest progress is written
    later.
    """
    async with bench_for(world) as bench:
        world.engine.fail("update", error, when=is_progress, times=3, lands=lands)
        await bench.report(0.1, "first")
        await world.recorder.wait_for(ProgressWritten)
    assert world.recorder.of(ProgressDropped) == [
        ProgressDropped(request_id=bench.claim.request_id, error=error)
    ]
    assert (await world.get(bench.claim)).progress_message == "first"


@virtual_time
async def test_progress_without_room_in_the_item_is_dropped(world: World) -> None:
    """Beside a large payload there may be no room. It is emitted, and not retried."""
    async with bench_for(world) as bench:
        error = ItemTooLarge("item", "too large")
        world.engine.fail("update", error, when=is_progress, times=9)
        await bench.report(0.1, "first")
        await world.recorder.wait_for(ProgressDropped)
        await anyio.sleep(5)
        assert await bench.writer.close() is None
    assert len(world.recorder.of(ProgressDropped)) == 1


@virtual_time
async def test_an_unknown_error_does_not_end_the_writer(world: World) -> None:
    """The writer's tasks are in the worker's task group. The error is emitted, and progress
    continues.
    """
    async with bench_for(world) as bench:
        world.engine.fail("update", RuntimeError("a bug"), when=is_progress)
        await bench.report(0.1, "first")
        (failed,) = await world.recorder.wait_for(StepFailed)
        assert failed.loop == "progress"
        await bench.report(0.2, "second")
        await world.recorder.wait_for(ProgressWritten)
    assert (await world.get(bench.claim)).progress_message == "second"


@pytest.mark.parametrize(
    "arguments",
    [
        (-0.1, None, None),
        (1.1, None, None),
        (float("nan"), None, None),
        ("half", None, None),
        (True, None, None),
        (0.5, 7, None),
        (0.5, b"bytes", None),
        (0.5, None, {"x": object()}),
        (0.5, None, ["no mapping"]),
        (0.5, "x" * 450_000, None),
        (0.5, None, {"x": "x" * 450_000}),
    ],
)
async def test_invalid_progress_is_raised_in_the_handler(arguments: Any, world: World) -> None:
    """It is raised at the call, and nothing of it is kept."""
    async with bench_for(world) as bench:
        with pytest.raises(ValidationError):
            await bench.report(*arguments)
        assert await bench.writer.close() is None


@virtual_time
@pytest.mark.parametrize(
    ("operation", "kind"), [("cancel", Cancelled), ("delete", ClaimLost)], ids=["cancel", "delete"]
)
async def test_a_lost_claim_is_reported_to_the_attempt(
    operation: str, kind: type[ClaimLost], world: World
) -> None:
    """The attempt then cancels the handler."""
    async with bench_for(world) as bench:
        await getattr(world.stores.requests, operation)(bench.claim.request_id)
        await bench.report(0.5)
        await anyio.sleep(1)
        assert [type(error) for error in bench.lost] == [kind]


@virtual_time
async def test_the_end_does_not_wait_for_a_write_that_hangs(world: World) -> None:
    """Its progress is written with the outcome. If the write arrives after that, the fence
    refuses it.
    """
    async with bench_for(world) as bench:
        fault = world.engine.hold("update", when=is_progress)
        await bench.report(0.5, "half")
        await fault.wait_reached()
        began = anyio.current_time()
        assert await bench.writer.close() == Progress(0.5, "half")
        assert anyio.current_time() - began == 1


@virtual_time
async def test_progress_that_a_checkpoint_wrote_is_not_written_again(world: World) -> None:
    """One write has both."""
    async with bench_for(world) as bench:
        world.engine.calls.clear()
        await bench.report(0.5)
        await bench.writer.checkpoint("here")
        await anyio.sleep(10)
    assert world.engine.calls == ["update"]


@virtual_time
async def test_each_outage_is_emitted_once(world: World) -> None:
    """A write that succeeds ends the outage."""
    async with bench_for(world) as bench:
        for message in ("first", "second"):
            world.engine.fail("update", when=is_progress, times=3)
            await bench.report(0.5, message)
            await anyio.sleep(20)
    assert len(world.recorder.of(ProgressDropped)) == 2


async def test_a_checkpoint_after_the_end_is_refused(world: World) -> None:
    """A thread or task that the handler has left behind learns that nothing was written."""
    async with bench_for(world) as bench:
        await bench.writer.close()
        world.engine.calls.clear()
        with pytest.raises(ClaimLost):
            await bench.writer.checkpoint("late")
    assert world.engine.calls == []
