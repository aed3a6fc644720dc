"""A handler's progress and checkpoints on their way to the table and to whoever waits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from streamer_store import (
    AccessDenied,
    Cancelled,
    Claim,
    ClaimLost,
    ItemTooLarge,
    Progress,
    RequestStatus,
    StoreError,
    StoreUnavailable,
    TableMissing,
    ValidationError,
)
from streamer_worker.events import CheckpointDelayed, ProgressDropped, ProgressWritten, StepFailed
from streamer_worker.execution.progress import ProgressWriter
from streamer_worker.handlers.context import ProgressUpdate
from streamer_worker.handlers.latest_progress import LatestProgress
from unit.worker.harness import World, is_progress, virtual_time

pytestmark = pytest.mark.anyio


class Bench:
    """A writer for one claim, in its worker's tasks, and what it told."""

    def __init__(self, world: World, claim: Claim, tasks: anyio.abc.TaskGroup) -> None:
        self.claim = claim
        self.lost: list[ClaimLost] = []
        self.pushed: list[Progress] = []
        self.writer = ProgressWriter(
            requests=world.stores.requests,
            claim=claim,
            on_lost=self.lost.append,
            push=self.pushed.append,
            tasks=tasks,
            events=world.events,
            clock=world.clock,
            rng=world.rng,
        )

    async def report(
        self,
        fraction: float | None = None,
        message: str | None = None,
        details: Any = None,
        *,
        reset: bool = False,
    ) -> None:
        await self.writer.progress(ProgressUpdate(fraction, message, details, reset))


@asynccontextmanager
async def bench_for(world: World, **fields: Any) -> AsyncIterator[Bench]:
    claim = await world.claim(**fields)
    async with anyio.create_task_group() as tasks:
        yield Bench(world, claim, tasks)
        tasks.cancel_scope.cancel()


async def test_progress_is_in_the_table_soon(world: World) -> None:
    """Fraction, message and details; the request stays ours."""
    async with bench_for(world) as bench:
        await bench.report(0.25, "Reading", {"rows": 3})
        await world.recorder.wait_for(ProgressWritten)
        stored = await world.get(bench.claim)
    assert (stored.progress, stored.progress_message) == (0.25, "Reading")
    assert stored.progress_details == {"rows": 3}
    assert stored.status is RequestStatus.PROCESSING


@virtual_time
async def test_what_is_left_out_stays(world: World) -> None:
    """A later report without a message keeps the one before."""
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
    """A thousand reports in ten seconds are ten writes, the newest each, and 100 pushes."""
    async with bench_for(world) as bench:
        await bench.report(0.0, "0")
        await anyio.wait_all_tasks_blocked()
        for number in range(1, 1000):
            await anyio.sleep(0.01)
            await bench.report(number / 1000, str(number))
        left = await bench.writer.close()
    writes = world.recorder.of(ProgressWritten)
    assert len(writes) == 10
    assert 80 <= 1000 - sum(each.told for each in writes) <= 100  # those of the last second
    assert left == Progress(0.999, "999")
    assert 90 <= len(bench.pushed) <= 100


@virtual_time
async def test_nothing_is_left_when_all_is_written(world: World) -> None:
    """The outcome then has no progress to carry."""
    async with bench_for(world) as bench:
        await bench.report(0.5)
        await world.recorder.wait_for(ProgressWritten)
        assert await bench.writer.close() is None
    assert bench.pushed == [Progress(0.5)]


@virtual_time
async def test_a_handler_that_ends_at_once_has_one_write(world: World) -> None:
    """Its outcome, which has the last of its progress; nothing but that is pushed."""
    async with bench_for(world) as bench:
        world.engine.calls.clear()
        await bench.report(0.1)
        await bench.report(0.9, "almost")
        await anyio.sleep(0.05)
        assert await bench.writer.close() == Progress(0.9, "almost")
    assert (world.engine.calls, bench.pushed) == ([], [])


async def test_a_handler_that_never_reports_costs_nothing(world: World) -> None:
    """No task, no write, nothing to carry."""
    async with bench_for(world) as bench:
        world.engine.calls.clear()
        assert await bench.writer.close() is None
    assert world.engine.calls == []


@virtual_time
async def test_progress_never_goes_backwards_unless_asked(world: World) -> None:
    """A smaller fraction is passed over, its message is not; an earlier attempt counts, too."""
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


def test_what_changes_nothing_is_not_written() -> None:
    """A smaller fraction alone is no news."""
    latest_progress = LatestProgress(0.5)
    assert not latest_progress.report(ProgressUpdate(0.4))
    assert not latest_progress.report(ProgressUpdate())
    assert latest_progress.updates == 0
    assert latest_progress.report(ProgressUpdate(0.5))


def test_details_are_as_they_were_when_they_were_told() -> None:
    """A handler may go on with its own mapping."""
    latest_progress = LatestProgress(0.0)
    details = {"rows": [1]}
    latest_progress.report(ProgressUpdate(details=details))
    details["rows"].append(2)
    assert latest_progress.newest() == (1, Progress(None, None, {"rows": [1]}))


@virtual_time
async def test_writes_go_one_at_a_time_in_order(world: World) -> None:
    """What is told during a write waits for the next."""
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
@pytest.mark.parametrize("lands", [False, True])
@pytest.mark.parametrize(
    "error", [StoreUnavailable("away"), AccessDenied("no policy"), TableMissing("no table")]
)
async def test_an_outage_loses_no_progress(error: StoreError, world: World, *, lands: bool) -> None:
    """It is told once, the handler goes on, and the last value is written when that is possible."""
    async with bench_for(world) as bench:
        world.engine.fail("update", error, when=is_progress, times=3, lands=lands)
        await bench.report(0.1, "first")
        await world.recorder.wait_for(ProgressWritten)
    assert world.recorder.of(ProgressDropped) == [
        ProgressDropped(request_id=bench.claim.request_id, error=error)
    ]
    assert (await world.get(bench.claim)).progress_message == "first"


@virtual_time
async def test_what_an_item_cannot_hold_is_dropped(world: World) -> None:
    """Beside a large payload there may be no room: told, and not tried again."""
    async with bench_for(world) as bench:
        error = ItemTooLarge("item", "too large")
        world.engine.fail("update", error, when=is_progress, times=9)
        await bench.report(0.1, "first")
        await world.recorder.wait_for(ProgressDropped)
        await anyio.sleep(5)
        assert await bench.writer.close() is None
    assert len(world.recorder.of(ProgressDropped)) == 1


@virtual_time
async def test_an_error_that_nobody_knows_ends_nothing(world: World) -> None:
    """The tasks of the writer are those of the worker: it is told, and progress goes on."""
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
async def test_wrong_progress_is_the_handlers_error(arguments: Any, world: World) -> None:
    """It is raised where the mistake is, and nothing of it is kept."""
    async with bench_for(world) as bench:
        with pytest.raises(ValidationError):
            await bench.report(*arguments)
        assert await bench.writer.close() is None


@virtual_time
@pytest.mark.parametrize(
    ("operation", "kind"), [("cancel", Cancelled), ("delete", ClaimLost)], ids=["cancel", "delete"]
)
async def test_a_lost_claim_is_told(operation: str, kind: type[ClaimLost], world: World) -> None:
    """To whoever runs the handler, which is cancelled then."""
    async with bench_for(world) as bench:
        await getattr(world.stores.requests, operation)(bench.claim.request_id)
        await bench.report(0.5)
        await anyio.sleep(1)
        assert [type(each) for each in bench.lost] == [kind]


async def test_a_checkpoint_is_safe_when_it_returns(world: World) -> None:
    """In one write with the progress that was told before it."""
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
    """Each failure is told; the handler goes on once it is written."""
    error = StoreUnavailable("away")
    async with bench_for(world) as bench:
        world.engine.fail("update", error, when=is_progress, times=3, lands=lands)
        await bench.writer.checkpoint([1])
    delayed = CheckpointDelayed(request_id=bench.claim.request_id, error=error)
    assert world.recorder.of(CheckpointDelayed) == [delayed] * 3
    assert (await world.get(bench.claim)).checkpoint == [1]


async def test_a_checkpoint_counts_more_than_progress(world: World) -> None:
    """Where both have no room, the progress goes."""
    async with bench_for(world) as bench:
        await bench.report(0.5, "half")
        too_much = ItemTooLarge("item", "too large")
        world.engine.fail("update", too_much, when=lambda update: "ProgressMessage" in update.sets)
        await bench.writer.checkpoint("here")
    stored = await world.get(bench.claim)
    assert (stored.checkpoint, stored.progress) == ("here", 0)


@pytest.mark.parametrize("value", [object(), {"x": set()}, float("nan"), "x" * 450_000])
async def test_a_wrong_checkpoint_is_the_handlers_error(value: Any, world: World) -> None:
    """It is raised, and the one before stays."""
    async with bench_for(world) as bench:
        await bench.writer.checkpoint(1)
        with pytest.raises(ValidationError):
            await bench.writer.checkpoint(value)
    assert (await world.get(bench.claim)).checkpoint == 1


async def test_a_checkpoint_of_a_lost_claim_is_never_taken_for_safe(world: World) -> None:
    """Even when the handler shields itself against being cancelled."""
    async with bench_for(world) as bench:
        await world.stores.requests.delete(bench.claim.request_id)
        with pytest.raises(ClaimLost):
            await bench.writer.checkpoint(1)
        assert len(bench.lost) == 1


@virtual_time
async def test_the_end_does_not_wait_for_a_write_that_hangs(world: World) -> None:
    """What it had goes with the outcome; the fence stops it if it lands after that."""
    async with bench_for(world) as bench:
        fault = world.engine.hold("update", when=is_progress)
        await bench.report(0.5, "half")
        await fault.wait_reached()
        began = anyio.current_time()
        assert await bench.writer.close() == Progress(0.5, "half")
        assert anyio.current_time() - began == 1
