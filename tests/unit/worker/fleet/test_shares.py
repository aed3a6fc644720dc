"""How the fleet divides what it may run of an action, in rows and in virtual time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer_store import WorkerRow
from streamer_store.fleet_shares import FleetShare, Shares
from streamer_worker import Context, handler
from streamer_worker.events import Events, RequestFinished
from streamer_worker.fleet.shares import confirmed, divided, target
from streamer_worker.fleet.view import FleetView
from streamer_worker.handlers.registry import registry
from streamer_worker.intake.fleet_limits import FleetLimits
from streamer_worker.intake.slots import Slot, Slots
from streamer_worker.settings import PollSettings
from support import START, ManualClock
from unit.worker.harness import World, echo, make_world, pause_process, virtual_time

HEARTBEAT = 4.0
LEASE = 16.0


def row(name: str, *, draining: bool = False, **shares: tuple[int, int, int]) -> WorkerRow:
    given_shares: Shares = {action: FleetShare(*numbers) for action, numbers in shares.items()}
    return WorkerRow(worker_id=name, started_at=START, shares=given_shares, draining=draining)


def view(*live: WorkerRow, dead: tuple[WorkerRow, ...] = ()) -> FleetView:
    return FleetView(worker_id="a", live=live, dead=dead)


@pytest.mark.parametrize(
    ("limit", "wanted", "running", "result"),
    [
        (10, [0, 0, 0], [0, 0, 0], [4, 3, 3]),
        (10, [10, 0], [0, 0], [10, 0]),
        (10, [10, 10], [0, 0], [5, 5]),
        (10, [10, 2, 10], [0, 0, 0], [4, 2, 4]),
        (10, [3, 2], [0, 0], [6, 4]),
        (2, [5, 5, 5], [0, 0, 0], [1, 1, 0]),
        (10, [10, 10], [10, 0], [5, 0]),
        (10, [10, 10], [7, 3], [5, 3]),
        (3, [3, 3, 3], [2, 0, 0], [1, 1, 0]),
        (4, [4, 4], [3, 1], [2, 1]),
        (1, [1], [5], [1]),
    ],
)
def test_the_limit_is_divided_by_what_workers_want(
    limit: int, wanted: list[int], running: list[int], result: list[int]
) -> None:
    """Evenly, and what nobody wants too. One that runs more than its part starts no more."""
    shares = [
        (f"w{number}", FleetShare(runs, runs, wants))
        for number, (runs, wants) in enumerate(zip(running, wanted, strict=True))
    ]
    assert list(dict(sorted(divided(limit, shares).items())).values()) == result


@given(
    limit=st.integers(1, 30),
    workers=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=12),
)
def test_what_is_divided_is_never_more_than_the_limit(
    limit: int, workers: list[tuple[int, int]]
) -> None:
    """Beside what runs already. And all of it is divided unless workers run more than theirs."""
    shares = [
        (f"w{number}", FleetShare(runs, runs, max(runs, wants)))
        for number, (runs, wants) in enumerate(workers)
    ]
    result = divided(limit, shares)
    over = {name for name, share in shares if share.running > result[name]}
    runs_over = sum(share.running for name, share in shares if name in over)
    rest = sum(part for name, part in result.items() if name not in over)
    assert rest <= max(0, limit - runs_over)
    assert sum(result.values()) <= limit or over
    if not over:
        assert sum(result.values()) == limit


def test_what_was_announced_is_confirmed_by_all_rows() -> None:
    """Others' announcements count in full, those of dead workers until they are removed."""
    mine = row("a", act=(0, 6, 6))
    assert confirmed(10, "act", view(mine)) == 6
    assert confirmed(10, "act", view(mine, row("b", act=(0, 4, 0)))) == 6
    assert confirmed(10, "act", view(mine, row("b", act=(0, 5, 0)))) == 5
    assert confirmed(10, "act", view(mine, dead=(row("b", act=(9, 9, 9)),))) == 1
    assert confirmed(10, "act", view(mine, row("b", act=(0, 20, 0)))) == 0
    assert confirmed(10, "act", view(mine, row("old"))) == 6
    assert confirmed(10, "act", view(row("b", act=(0, 1, 0)))) == 0


def test_workers_that_drain_or_are_dead_get_nothing_more() -> None:
    """The others divide what those do not hold."""
    mine, own = row("a", act=(0, 0, 0)), FleetShare(wanted=10)
    drains = row("b", act=(3, 3, 3), draining=True)
    assert target(10, "act", view(mine, drains), own, turn=0) == 7
    assert target(10, "act", view(mine, dead=(row("c", act=(4, 4, 9)),)), own, turn=0) == 6
    assert target(10, "act", view(mine, row("old")), own, turn=0) == 10


def test_more_workers_than_the_limit_take_turns() -> None:
    """Each has a part for a while."""
    rows = [row(name, act=(0, 0, 1)) for name in "abcde"]
    turns = [target(2, "act", view(*rows), FleetShare(wanted=1), turn=turn) for turn in range(5)]
    assert sum(turns) == 2


class Fleet:
    """Workers in virtual time, which run one action of which the fleet runs `limit` at once."""

    def __init__(self, world: World, limit: int, *, seconds: float = 1.0) -> None:
        self.world = world
        self.running = 0
        self.most = 0
        self.ends: list[float] = []
        self.seconds = seconds
        self.limit = limit

    async def _run(self, _payload: dict[str, Any], _ctx: Context) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await anyio.sleep(self.seconds)
            self.ends.append(anyio.current_time())
        finally:
            self.running -= 1

    @asynccontextmanager
    async def worker(self, **settings: Any) -> AsyncIterator[None]:
        """Run a worker."""
        defined = handler("act", max_concurrency=self.limit, max_concurrency_scope="fleet")
        poll = PollSettings(min_interval=0.05, max_interval=0.5)
        app = self.world.app([defined(self._run)], poll=poll, **settings)
        async with anyio.create_task_group() as tasks:
            await tasks.start(app.run)
            yield
            app.stop()

    async def enqueue(self, count: int) -> None:
        for _ in range(count):
            await self.world.enqueue("act", max_retries=3)

    async def done(self, count: int, within: float) -> None:
        await self.world.recorder.wait_for(RequestFinished, count, within=within)


@pytest.mark.anyio
@virtual_time
async def test_a_lone_worker_may_run_all_of_the_limit() -> None:
    """From its first heartbeats on."""
    fleet = Fleet(make_world(), 3)
    await fleet.enqueue(30)
    async with fleet.worker():
        await fleet.done(30, within=25)
    assert fleet.most == 3


@pytest.mark.anyio
@virtual_time
async def test_three_workers_never_run_more_than_the_limit() -> None:
    """And use at least 90 % of it while requests wait, from three heartbeats on."""
    fleet = Fleet(make_world(), 10)
    await fleet.enqueue(600)
    async with fleet.worker(), fleet.worker(), fleet.worker():
        await fleet.done(600, within=100)
    assert fleet.most == 10
    late = [end for end in fleet.ends if 3 * HEARTBEAT <= end < 45]
    assert len(late) >= 0.9 * 10 * (45 - 3 * HEARTBEAT)


@pytest.mark.anyio
@virtual_time
async def test_a_worker_that_joins_gets_its_part_and_the_limit_holds() -> None:
    """It takes over what the first one ends. Proves FLEET-1."""
    fleet = Fleet(make_world(), 4, seconds=0.5)
    await fleet.enqueue(400)
    async with fleet.worker():
        await anyio.sleep(10)
        for _ in range(3):
            async with fleet.worker():
                await anyio.sleep(13)
        await fleet.done(400, within=120)
    assert fleet.most == 4


@pytest.mark.anyio
@virtual_time
async def test_more_workers_than_the_limit_do_all_requests() -> None:
    """With a limit of one and five workers, nothing waits for ever."""
    fleet = Fleet(make_world(), 1, seconds=0.2)
    await fleet.enqueue(100)
    async with (
        fleet.worker(),
        fleet.worker(),
        fleet.worker(),
        fleet.worker(),
        fleet.worker(),
    ):
        await fleet.done(100, within=900)
    assert fleet.most == 1


def test_a_large_fleet_uses_a_small_limit() -> None:
    """Of seventy workers, which read each other's rows at every third heartbeat."""
    clock, rows = ManualClock(), {}
    define = handler("act", max_concurrency=2, max_concurrency_scope="fleet")
    workers, all_slots = {}, []
    for number in range(70):
        name = f"{number:03}"
        slots = Slots(10, events=Events())
        all_slots.append(slots)
        workers[name] = FleetLimits(
            registry=registry([define(echo.function)]),
            slots=slots,
            heartbeat=HEARTBEAT,
            clock=clock,
        )
        rows[name] = row(name)
    taken: dict[Slots, list[Slot]] = defaultdict(list)
    used: list[int] = []
    for second in range(1200):
        clock.advance(1)
        for number, (name, limits) in enumerate(workers.items()):
            beats, is_time = divmod(second + number, int(HEARTBEAT))
            while limits.left("act") > 0:  # requests of a second, more than can run
                taken[all_slots[number]].append(all_slots[number].take("request", action="act"))
            if is_time == 0:
                rows[name] = replace(rows[name], shares=limits.shares())
                if (beats + number) % 3 == 0:
                    limits.on_fleet_view(FleetView(worker_id=name, live=tuple(rows.values())))
        used.append(sum(slots.used for slots in all_slots))
        for slots in all_slots:
            for slot in taken.pop(slots, ()):
                slots.release(slot)
    assert max(used) == 2
    assert sum(used[300:]) >= 0.75 * 2 * len(used[300:])


@pytest.mark.anyio
@virtual_time
async def test_what_a_dead_worker_held_comes_back() -> None:
    """Once its row is removed, after its lease. Until then its handlers may still run."""
    world = make_world()
    fleet = Fleet(world, 4)
    ghost = row("0-ghost", act=(3, 3, 4))
    await world.stores.workers.register(replace(ghost, actions=frozenset({"act"})))
    await fleet.enqueue(100)
    async with fleet.worker():
        await fleet.done(10, within=60)
        assert fleet.most == 1
        await fleet.done(100, within=60)
    assert fleet.most == 4
    assert fleet.ends[-1] < LEASE + 3 * HEARTBEAT + 90 / 4 + 3


@pytest.mark.anyio
@virtual_time
async def test_the_limit_holds_when_workers_were_paused() -> None:
    """They are together again at once, and no pause lets one start more than its part."""
    fleet = Fleet(make_world(), 4)
    await fleet.enqueue(200)
    async with fleet.worker(), fleet.worker():
        for _ in range(4):
            await anyio.sleep(7)
            pause_process(9)
        await fleet.done(200, within=200)
    assert fleet.most == 4
