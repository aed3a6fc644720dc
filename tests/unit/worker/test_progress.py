"""A handler's progress on its way to the table."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from streamer_store import (
    AccessDenied,
    Cancelled,
    Claim,
    ClaimLost,
    RequestStatus,
    StoreError,
    StoreUnavailable,
    TableMissing,
    ValidationError,
)
from streamer_worker.events import ProgressDropped
from streamer_worker.progress import ProgressWriter
from unit.worker.harness import World, is_progress

pytestmark = pytest.mark.anyio


def writer_for(world: World, claim: Claim, lost: list[ClaimLost] | None = None) -> ProgressWriter:
    """Give a writer that notes the loss of its claim."""
    return ProgressWriter(
        requests=world.stores.requests,
        claim=claim,
        on_lost=([] if lost is None else lost).append,
        events=world.events,
    )


async def test_progress_is_in_the_table(world: World) -> None:
    """Fraction, message and details; the request stays ours."""
    claim = await world.claim()
    await writer_for(world, claim)(0.25, "Reading", {"rows": 3})
    stored = await world.get(claim)
    assert (stored.progress, stored.progress_message) == (0.25, "Reading")
    assert stored.progress_details == {"rows": 3}
    assert stored.status is RequestStatus.PROCESSING


async def test_what_is_left_out_stays(world: World) -> None:
    """A later report without a message keeps the one before."""
    claim = await world.claim()
    write = writer_for(world, claim)
    await write(0.25, "Reading", {"rows": 3})
    await write(0.5, None, None)
    stored = await world.get(claim)
    assert (stored.progress, stored.progress_message) == (0.5, "Reading")
    assert stored.progress_details == {"rows": 3}


async def test_writes_go_one_at_a_time_in_order(world: World) -> None:
    """Reports from several tasks of one handler do not overtake one another."""
    claim = await world.claim()
    write = writer_for(world, claim)
    fault = world.engine.hold("update", when=is_progress)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write, 0.1, "first", None)
        await fault.wait_reached()
        world.engine.calls.clear()
        tasks.start_soon(write, 0.2, "second", None)
        await anyio.wait_all_tasks_blocked()
        assert world.engine.calls == []
        fault.let_go()
    assert (await world.get(claim)).progress_message == "second"


@pytest.mark.parametrize("lands", [False, True])
async def test_an_outage_drops_progress_and_is_told(world: World, *, lands: bool) -> None:
    """The handler goes on, and its next report is written."""
    claim = await world.claim()
    write = writer_for(world, claim)
    error = StoreUnavailable("away")
    world.engine.fail("update", error, when=is_progress, lands=lands)
    await write(0.1, "first", None)
    assert world.recorder.events == [ProgressDropped(request_id=claim.request_id, error=error)]
    await write(0.2, "second", None)
    assert (await world.get(claim)).progress_message == "second"


@pytest.mark.parametrize(
    "arguments",
    [
        (-0.1, None, None),
        (1.1, None, None),
        (40, None, None),
        (float("nan"), None, None),
        ("half", None, None),
        (True, None, None),
        (0.5, 7, None),
        (0.5, b"bytes", None),
        (0.5, "lone \ud800", None),
        (0.5, None, {"x": object()}),
        (0.5, None, ["no mapping"]),
        (0.5, "x" * 450_000, None),
    ],
)
async def test_wrong_progress_is_the_handlers_error(arguments: Any, world: World) -> None:
    """It is raised where the mistake is, and the table keeps what it had."""
    claim = await world.claim()
    write = writer_for(world, claim)
    before = await world.get(claim)
    with pytest.raises(ValidationError):
        await write(*arguments)
    assert await world.get(claim) == before


@pytest.mark.parametrize("error", [AccessDenied("no policy"), TableMissing("no table")])
async def test_what_an_operator_can_mend_is_no_fault_of_the_handler(
    error: StoreError, world: World
) -> None:
    """The progress is dropped, and told."""
    claim = await world.claim()
    world.engine.fail("update", error, when=is_progress)
    await writer_for(world, claim)(0.5, None, None)
    assert world.recorder.events == [ProgressDropped(request_id=claim.request_id, error=error)]


@pytest.mark.parametrize(
    ("operation", "kind"), [("cancel", Cancelled), ("delete", ClaimLost)], ids=["cancel", "delete"]
)
async def test_a_lost_claim_is_told(operation: str, kind: type[ClaimLost], world: World) -> None:
    """To whoever runs the handler, which is cancelled then."""
    claim = await world.claim()
    lost: list[ClaimLost] = []
    await getattr(world.stores.requests, operation)(claim.request_id)
    await writer_for(world, claim, lost)(0.5, None, None)
    assert [type(each) for each in lost] == [kind]
