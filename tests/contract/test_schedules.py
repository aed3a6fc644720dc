"""The rows of schedules, and the requests that they make."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from streamer_store import AsyncRequest, NotFound, ScheduleRow, Stores, Undecodable, ValidationError
from streamer_store.engine import Put
from streamer_store.reserved_ids import CONTROL_PREFIX
from streamer_store.schedule_row import decode_schedules, row_key, tick_id
from streamer_store.schema import WORKERS
from support import START

if TYPE_CHECKING:
    from support import ManualClock

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)
TICK = START + MINUTE
ROW = ScheduleRow(
    name="nightly",
    action="report",
    expression="* * * * *",
    timezone="Europe/Berlin",
    definition="0123abcd",
    defined_by=START,
    last_tick=START,
    listed_at=START,
)
REQUEST = AsyncRequest(action="report", payload={"n": 1})


async def test_a_row_is_created_once(stores: Stores) -> None:
    """The second worker gets the row of the first. Both read it with the fleet."""
    assert await stores.schedules.get("nightly") is None
    assert await stores.schedules.create(ROW) == ROW
    other = replace(ROW, expression="0 3 * * *")
    assert await stores.schedules.create(other) == ROW
    assert await stores.schedules.get("nightly") == ROW
    fleet = await stores.workers.read_all()
    assert (fleet.workers, decode_schedules(fleet.controls)) == ([], ([ROW], []))
    item = await stores.engine.get(WORKERS, row_key("nightly"))
    assert item is not None
    assert not item.keys() & {"TTL", "StartedAt", "Beat"}


async def test_a_tick_is_made_with_its_request(stores: Stores, clock: ManualClock) -> None:
    """LastTick moves and the request is stored, with an id that names the tick."""
    await stores.schedules.create(ROW)
    clock.advance(61)
    assert await stores.schedules.make_tick(ROW, TICK, REQUEST)
    request = await stores.requests.get(tick_id("nightly", TICK))
    assert (request.action, request.payload, request.created_at) == (
        "report",
        {"n": 1},
        clock.now(),
    )
    assert request.request_id == f"cron#nightly#{TICK:%Y-%m-%dT%H:%M:%S}Z"
    expected = replace(ROW, last_tick=TICK, made_tick=TICK, listed_at=clock.now())
    assert await stores.schedules.get("nightly") == expected
    (claim,) = await stores.requests.dequeue(10)
    assert claim.request_id == request.request_id


async def test_a_tick_is_not_made_again_after_its_request_is_deleted(stores: Stores) -> None:
    """Proves CRON-1: a worker that has seen the row before the tick cannot repeat it."""
    await stores.schedules.create(ROW)
    assert await stores.schedules.make_tick(ROW, TICK, REQUEST)
    await stores.requests.delete(tick_id("nightly", TICK))
    assert not await stores.schedules.make_tick(ROW, TICK, REQUEST)
    with pytest.raises(NotFound):
        await stores.requests.get(tick_id("nightly", TICK))


async def test_one_of_many_workers_makes_a_tick(stores: Stores) -> None:
    """All try at once, and one succeeds."""
    await stores.schedules.create(ROW)
    made: list[bool] = []

    async def make() -> None:
        made.append(await stores.schedules.make_tick(ROW, TICK, REQUEST))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(make)
    assert sorted(made) == [False] * 4 + [True]


async def test_a_request_that_is_there_is_kept(stores: Stores) -> None:
    """LastTick alone is moved, as after an import of an older row."""
    await stores.schedules.create(ROW)
    await stores.schedules.make_tick(ROW, TICK, REQUEST)
    (claim,) = await stores.requests.dequeue(10)
    await stores.requests.complete(claim, {"done": True})
    row = await stores.schedules.get("nightly")
    assert row is not None
    assert await stores.schedules.change(row, ROW)
    assert await stores.schedules.make_tick(ROW, TICK, REQUEST)
    assert (await stores.requests.get(claim.request_id)).result == {"done": True}
    row = await stores.schedules.get("nightly")
    assert row is not None
    assert row.last_tick == TICK


async def test_a_change_requires_what_was_seen(stores: Stores) -> None:
    """The LastTick and the definition. The same change twice counts as made."""
    await stores.schedules.create(ROW)
    changed = replace(ROW, expression="0 3 * * *", definition="new", last_tick=TICK)
    assert not await stores.schedules.change(replace(ROW, last_tick=TICK), changed)
    assert not await stores.schedules.change(replace(ROW, definition="old"), changed)
    for _ in range(2):
        assert await stores.schedules.change(ROW, changed)
    assert not await stores.schedules.change(ROW, replace(changed, action="other"))
    assert await stores.schedules.get("nightly") == changed
    unknown = replace(ROW, name="unknown")
    assert not await stores.schedules.change(unknown, unknown)
    assert not await stores.schedules.make_tick(unknown, TICK, REQUEST)


async def test_an_order_to_run_makes_one_request(stores: Stores) -> None:
    """It survives a tick and another order, and is deleted with the request that it makes."""
    assert await stores.schedules.request_run("nightly", "run-1") is None
    await stores.schedules.create(ROW)
    assert await stores.schedules.request_run("nightly", "run-1") == "run-1"
    assert await stores.schedules.request_run("nightly", "run-2") == "run-1"
    await stores.schedules.make_tick(ROW, TICK, REQUEST)
    row = await stores.schedules.get("nightly")
    assert row is not None
    assert (row.run, row.last_tick) == ("run-1", TICK)
    assert await stores.schedules.make_run(row, REQUEST)
    assert (await stores.requests.get("run-1")).payload == {"n": 1}
    await stores.requests.delete("run-1")
    assert not await stores.schedules.make_run(row, REQUEST)
    assert await stores.schedules.get("nightly") == replace(row, run=None)


async def test_a_row_is_removed_unless_it_was_written_since(
    stores: Stores, clock: ManualClock
) -> None:
    """A worker that lists the schedule again has written ListedAt."""
    await stores.schedules.create(ROW)
    clock.advance(1)
    listed = replace(ROW, listed_at=clock.now())
    assert await stores.schedules.change(ROW, listed)
    assert not await stores.schedules.remove(ROW)
    assert await stores.schedules.remove(listed)
    assert await stores.schedules.remove(listed)
    assert await stores.schedules.get("nightly") is None


@pytest.mark.parametrize("name", ["", "a#b", "a\nb", "é" * 101])
async def test_some_names_are_refused(stores: Stores, name: str) -> None:
    """An empty one, one with `#` or a control character, and one of more than 200 bytes."""
    with pytest.raises(ValidationError):
        await stores.schedules.get(name)
    with pytest.raises(ValidationError):
        replace(ROW, name=name)


@pytest.mark.parametrize(
    "broken",
    [{"LastTick": {"S": "soon"}}, {"Definition": {"N": "1"}}, {"ListedAt": {"NULL": True}}],
)
async def test_a_row_that_cannot_be_read_is_an_error(
    stores: Stores, broken: dict[str, Any]
) -> None:
    """It names the row, and the other rows are read."""
    await stores.schedules.create(replace(ROW, name="other"))
    await stores.schedules.create(ROW)
    item = await stores.engine.get(WORKERS, row_key("nightly"))
    assert item is not None
    await stores.engine.put(Put(table=WORKERS, item={**item, **broken}))
    rows, errors = decode_schedules((await stores.workers.read_all()).controls)
    assert [row.name for row in rows] == ["other"]
    assert [error.key for error in errors] == [f"{CONTROL_PREFIX}cron#nightly"]
    for call in (stores.schedules.get("nightly"), stores.schedules.create(ROW)):
        with pytest.raises(Undecodable):
            await call


async def test_producers_cannot_use_the_id_of_a_tick(stores: Stores) -> None:
    """It is reserved."""
    with pytest.raises(ValidationError, match="reserved"):
        await stores.requests.enqueue(replace(REQUEST, request_id=tick_id("nightly", TICK)))
