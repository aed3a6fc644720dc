"""Who makes which tick, and when."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from streamer_store import Undecodable
from streamer_store.engine import Put
from streamer_store.pause import Pause, PauseKind
from streamer_store.reserved_ids import CONTROL_PREFIX
from streamer_store.schedule_row import row_key, tick_id
from streamer_store.schema import WORKERS
from streamer_worker.events import (
    ScheduleDefined,
    ScheduleEnded,
    ScheduleSuspended,
    ScheduleTicked,
    ScheduleTicksMissed,
    StepFailed,
)
from streamer_worker.schedules.ended import ENDS_AFTER
from unit.worker.schedules.steps import BEGAN, CronBench, definition

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)
DAY = 86_400


@pytest.fixture
def bench() -> CronBench:
    return CronBench()


async def test_the_first_sight_of_a_schedule_makes_no_tick(bench: CronBench) -> None:
    """Its ticks begin with the next one."""
    await bench.start("w1", definition())
    assert await bench.step() == 0
    assert (await bench.row()).last_tick == BEGAN
    (defined,) = bench.recorder.of(ScheduleDefined)
    assert (defined.expression, defined.timezone) == ("* * * * *", "UTC")
    await bench.run(60)
    assert await bench.ids() == [tick_id("nightly", BEGAN + MINUTE)]


async def test_each_tick_is_made_once_by_one_of_many(bench: CronBench) -> None:
    """The request has the payload, and the handler can read the tick in its metadata."""
    for number in range(5):
        await bench.start(f"w{number}", definition(payload={"n": 2}, max_retries=1))
    await bench.run(300)
    expected = [tick_id("nightly", BEGAN + n * MINUTE) for n in range(1, 6)]
    assert await bench.ids() == expected
    assert [event.request_id for event in bench.recorder.of(ScheduleTicked)] == expected
    request = await bench.stores.requests.get(expected[0])
    metadata = {"schedule": "nightly", "tick": "2066-03-14T15:11:00Z"}
    assert request.payload == {"n": 2, "_metadata": metadata}
    assert (request.action, request.max_retries) == ("echo", 1)


async def test_the_next_worker_makes_the_tick_of_one_that_does_not(bench: CronBench) -> None:
    """Two seconds later, whether or not that one has been found dead."""
    for number in range(3):
        await bench.start(f"w{number}", definition())
    await bench.step()
    ranks = {
        name: watcher.membership.view.rank_among(
            [other.row for other in bench.watchers.values()], row_key("nightly")
        )
        for name, watcher in bench.watchers.items()
    }
    second = next(bench.watchers[name] for name, rank in ranks.items() if rank == 1)
    last = next(bench.watchers[name] for name, rank in ranks.items() if rank == 2)
    bench.clock.advance(60)
    await bench.look()
    assert await bench.step(second, last) == 0
    bench.clock.advance(2)
    assert await bench.step(last) == 0
    assert await bench.step(second) == 1
    bench.clock.advance(2)
    assert await bench.step(last) == 0
    (ticked,) = bench.recorder.of(ScheduleTicked)
    assert ticked.late == 2


async def test_two_deployments_make_the_ticks_of_their_own_schedules(bench: CronBench) -> None:
    """The leader, which is the oldest worker, knows one of them only."""
    await bench.start("a1", definition(name="reports"))
    await bench.start("b1", definition(name="mails", cron="*/2 * * * *"))
    await bench.run(240)
    made = Counter(event.schedule for event in bench.recorder.of(ScheduleTicked))
    assert made == {"reports": 4, "mails": 2}


async def test_a_tick_is_not_made_again_when_its_request_is_gone(bench: CronBench) -> None:
    """As after a restart of the fleet: LastTick shows that it was made."""
    watcher = await bench.start("w1", definition())
    await bench.run(60)
    (made,) = await bench.ids()
    await bench.stores.requests.delete(made)
    await bench.end(watcher)
    await bench.start("w2", definition())
    assert await bench.step() == 0
    assert await bench.ids() == []


async def test_a_clock_that_steps_back_makes_no_tick_again(bench: CronBench) -> None:
    """The next tick comes when the clock has passed the last one again."""
    await bench.start("w1", definition())
    await bench.run(120)
    bench.clock.advance(-90)
    await bench.run(90)
    assert len(await bench.ids()) == 2
    await bench.run(60)
    assert len(await bench.ids()) == 3


@pytest.mark.parametrize(("missed", "made"), [("last", 1), ("all", 6)])
async def test_ticks_that_nobody_was_there_for_are_caught_up(
    bench: CronBench, missed: str, made: int
) -> None:
    """Within catch_up: the last one, or all. The others are reported as missed."""
    every = definition("*/10 * * * *", missed=missed, catch_up=timedelta(hours=1))
    watcher = await bench.start("w1", every)
    await bench.step()
    await bench.end(watcher)
    bench.clock.advance(2 * 3600 + 61)
    await bench.start("w2", every)
    await bench.step()
    assert len(await bench.ids()) == made
    (lost,) = bench.recorder.of(ScheduleTicksMissed)
    assert (lost.count, lost.paused) == (12 - made, False)
    assert await bench.step() == 0


async def test_a_changed_expression_holds_for_the_next_ticks(bench: CronBench) -> None:
    """The newer worker's definition stands. The older worker makes no ticks beside it."""
    await bench.start("old", definition("* * * * *"))
    await bench.run(60)
    bench.clock.advance(1)
    await bench.start("new", definition("30 * * * * *"))
    await bench.step()
    assert (await bench.row()).expression == "30 * * * * *"
    await bench.run(119)
    times = [request_id[-9:] for request_id in await bench.ids()]
    assert times == ["15:11:00Z", "15:11:30Z", "15:12:30Z"]


async def test_a_changed_payload_loses_no_tick(bench: CronBench) -> None:
    """LastTick is kept if the times are the same."""
    old = await bench.start("old", definition(payload={"n": 1}))
    await bench.step()
    await bench.end(old)
    bench.clock.advance(61)
    await bench.start("new", definition(payload={"n": 2}))
    await bench.step()
    await bench.step()
    (made,) = await bench.ids()
    payload = (await bench.stores.requests.get(made)).payload
    assert payload is not None
    assert payload["n"] == 2


async def test_the_definition_of_the_remaining_workers_returns(bench: CronBench) -> None:
    """After a deploy that was rolled back: they started before the writer of the row."""
    await bench.start("old", definition("* * * * *"))
    await bench.step()
    bench.clock.advance(5)
    new = await bench.start("new", definition("0 3 * * *"))
    await bench.step()
    assert (await bench.row()).expression == "0 3 * * *"
    await bench.end(new)
    await bench.run(20)
    assert (await bench.row()).expression == "* * * * *"
    await bench.run(60)
    assert len(await bench.ids()) == 1


async def test_a_paused_schedule_makes_no_ticks_and_catches_none_up(bench: CronBench) -> None:
    """They are counted, and an operator can still run it."""
    await bench.start("w1", definition())
    await bench.step()
    until = BEGAN + timedelta(seconds=150)
    await bench.stores.pauses.start(
        Pause(kind=PauseKind.SCHEDULE, name="nightly", by="ops", at=BEGAN, until=until)
    )
    await bench.run(120)
    assert await bench.ids() == []
    assert [event.paused for event in bench.recorder.of(ScheduleTicksMissed)] == [True, True]
    await bench.stores.schedules.request_run("nightly", "run-1")
    await bench.run(8)
    assert await bench.ids() == ["run-1"]
    await bench.run(52)
    assert await bench.ids() == [tick_id("nightly", BEGAN + 3 * MINUTE), "run-1"]


async def test_a_worker_whose_clock_is_wrong_makes_no_ticks(bench: CronBench) -> None:
    """It says so once. Another worker makes them."""
    wrong = await bench.start("w1", definition())
    wrong.seconds_off = -61
    await bench.run(120)
    assert await bench.ids() == []
    (suspended,) = bench.recorder.of(ScheduleSuspended)
    assert "-61 s from DynamoDB's" in suspended.reason
    await bench.start("w2", definition())
    await bench.run(60)
    assert len(await bench.ids()) == 2


async def test_a_last_tick_far_ahead_is_reported_and_ignored(bench: CronBench) -> None:
    """Another clock was wrong. The ticks go on from now."""
    await bench.start("w1", definition())
    await bench.step()
    row = await bench.row()
    await bench.stores.schedules.change(row, replace(row, last_tick=BEGAN + timedelta(days=9)))
    await bench.run(60)
    assert len(await bench.ids()) == 1
    (suspended,) = bench.recorder.of(ScheduleSuspended)
    assert "LastTick was ahead" in suspended.reason


async def test_a_schedule_that_no_worker_lists_for_a_day_has_ended(bench: CronBench) -> None:
    """One of the other workers removes its row. One that is listed keeps its row."""
    watcher = await bench.start("w1", definition(), definition("0 0 1 1 *", name="yearly"))
    await bench.run(60)
    await bench.end(watcher)
    await bench.start("w2", definition("0 0 1 1 *", name="yearly"))
    await bench.run(3 * DAY // 4, step=600)
    assert await bench.watchers["w2"].ended.step() == 0
    await bench.run(7 * DAY // 12, step=600)
    assert await bench.watchers["w2"].ended.step() == 1
    assert await bench.stores.schedules.get("nightly") is None
    assert [event.schedule for event in bench.recorder.of(ScheduleEnded)] == ["nightly"]
    assert bench.clock.now() - (await bench.row("yearly")).listed_at < timedelta(hours=2)


async def test_a_schedule_that_returns_after_a_day_makes_no_tick_for_the_past(
    bench: CronBench,
) -> None:
    """Its row has been removed, so it begins as a new one."""
    watcher = await bench.start("w1", definition(missed="all", catch_up=timedelta(days=1)))
    await bench.step()
    await bench.end(watcher)
    other = await bench.start("w2")
    bench.clock.advance(ENDS_AFTER.total_seconds() + 1)
    await bench.look()
    assert await other.ended.step() == 1
    await bench.start("w3", definition(missed="all", catch_up=timedelta(days=1)))
    await bench.run(60)
    assert len(await bench.ids()) == 1


async def test_one_schedule_that_fails_does_not_hold_up_another(bench: CronBench) -> None:
    """A row that cannot be read, and a payload that cannot be stored. The error is reported."""
    key = row_key("broken")
    await bench.stores.engine.put(Put(table=WORKERS, item={"WorkerID": {"S": key}}))
    await bench.start("w1", definition(name="broken"), definition())
    await bench.step()
    bench.clock.advance(60)
    await bench.look()
    await bench.step()
    assert len(await bench.ids()) == 1
    failures = bench.recorder.of(StepFailed)
    assert [type(failure.error) for failure in failures] == [Undecodable, Undecodable]
    assert key.startswith(CONTROL_PREFIX)


async def test_an_unsafe_lease_makes_no_ticks(bench: CronBench) -> None:
    """Others may have declared this worker dead."""
    watcher = await bench.start("w1", definition())
    await bench.step()
    bench.clock.advance(60)
    assert await bench.step(watcher) == 0
    assert await watcher.ended.step() == 0


async def test_a_name_with_a_hash_is_refused(bench: CronBench) -> None:
    """It would make another schedule's ids."""
    await bench.start("w1", definition(name="a#b"))
    await bench.step()
    (failure,) = bench.recorder.of(StepFailed)
    assert "'#'" in str(failure.error)
