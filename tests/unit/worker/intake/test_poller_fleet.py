"""Which waiting requests a worker leaves to other workers, and for how long."""

from __future__ import annotations

import anyio
import pytest

from streamer_store import RequestStatus, WorkerRow
from streamer_store.schema import REQUESTS
from streamer_worker.events import ActionUnknown, ClaimTried, HeartbeatTried, RequestFinished
from streamer_worker.fleet.view import FleetView
from streamer_worker.settings import PollSettings
from support import START
from unit.worker.benches import PollBench, enqueue
from unit.worker.harness import World, echo, running, virtual_time

pytestmark = [pytest.mark.anyio, virtual_time]
STEAL_DELAY = 0.6
UNKNOWN_ACTION_TIMEOUT = 1800.0


def member(name: str, *actions: str, draining: bool = False) -> WorkerRow:
    actions = actions or ("echo",)
    return WorkerRow(
        worker_id=name, started_at=START, actions=frozenset(actions), draining=draining
    )


def fleet(*others: WorkerRow) -> FleetView:
    return FleetView(worker_id="me", live=(member("me"), *others))


async def ranked(world: World, view: FleetView, rank: int) -> str:
    """Enqueue a request for which this worker has the given rank, and return its id."""
    name = next(
        name
        for name in (f"request-{number}" for number in range(1000))
        if view.rank(name, "echo") == rank
    )
    await world.enqueue(request_id=name)
    return name


async def polled_for(bench: PollBench, seconds: float, every: float = 10.0) -> list[str]:
    """Poll for this many seconds, and return what was claimed."""
    until = anyio.current_time() + seconds
    claimed = await bench.poll()
    while anyio.current_time() + every <= until:
        await anyio.sleep(every)
        claimed += await bench.poll()
    return claimed


async def test_an_action_that_another_lists_is_left_to_it(world: World, bench: PollBench) -> None:
    """It is left however long the request waits, because that worker may be busy."""
    bench.fleet = fleet(member("other", "theirs"))
    request = await world.enqueue("theirs")
    assert await polled_for(bench, 100 * UNKNOWN_ACTION_TIMEOUT, every=60.0) == []
    assert (await world.get(request)).status is RequestStatus.PENDING
    assert world.recorder.of(ActionUnknown) == []
    assert world.recorder.of(ClaimTried) == []


async def test_an_action_that_nobody_lists_is_claimed_in_the_end(
    world: World, bench: PollBench
) -> None:
    """Not before `unknown_action_timeout`: a rolling deploy may still start its worker."""
    bench.fleet = fleet(member("other"))
    request = await world.enqueue("nobody_knows")
    assert await polled_for(bench, UNKNOWN_ACTION_TIMEOUT - 1, every=0.5) == []
    await anyio.sleep(2)
    assert await bench.poll() == [request.request_id]


async def test_an_unknown_action_is_reported_once(world: World, bench: PollBench) -> None:
    """It is reported once for the action, not for each poll or each request."""
    await enqueue(world, 3, action="nobody_knows")
    await enqueue(world, 1, action="nor_this")
    await polled_for(bench, UNKNOWN_ACTION_TIMEOUT - 1)
    actions = sorted(event.action for event in world.recorder.of(ActionUnknown))
    assert actions == ["nobody_knows", "nor_this"]


async def test_a_worker_that_came_and_went_gives_an_action_more_time(
    world: World, bench: PollBench
) -> None:
    """The time counts from when the last worker that lists the action was last seen alive."""
    request = await world.enqueue("theirs")
    assert await polled_for(bench, UNKNOWN_ACTION_TIMEOUT - 10) == []
    bench.fleet = fleet(member("other", "theirs"))
    assert await polled_for(bench, 30) == []
    bench.fleet = FleetView(worker_id="me", listed={"theirs": anyio.current_time()})
    assert await polled_for(bench, UNKNOWN_ACTION_TIMEOUT - 1, every=0.5) == []
    await anyio.sleep(2)
    assert await bench.poll() == [request.request_id]


async def test_an_action_that_was_unknown_before_has_its_full_time_again(
    world: World, bench: PollBench
) -> None:
    """Its worker may have run all requests since then, and be restarting now."""
    await world.enqueue("theirs")
    assert await polled_for(bench, UNKNOWN_ACTION_TIMEOUT - 1) == []
    await anyio.sleep(10 * UNKNOWN_ACTION_TIMEOUT)
    bench.fleet = FleetView(worker_id="me", listed={"theirs": anyio.current_time()})
    await world.enqueue("theirs")
    assert await polled_for(bench, UNKNOWN_ACTION_TIMEOUT - 1, every=0.5) == []


async def test_an_unknown_action_fails_under_its_own_code(world: World) -> None:
    """A whole worker reports it, waits, and then fails the request with INVALID_ACTION."""
    request = await world.enqueue("nobody_knows", max_retries=5)
    poll = PollSettings(
        min_interval=0.5, max_interval=2.0, unknown_action_timeout=UNKNOWN_ACTION_TIMEOUT
    )
    async with running(world.app([echo], poll=poll)):
        began = anyio.current_time()
        (finished,) = await world.recorder.wait_for(RequestFinished, within=3600)
        waited = anyio.current_time() - began
    assert UNKNOWN_ACTION_TIMEOUT <= waited <= UNKNOWN_ACTION_TIMEOUT + poll.max_interval
    assert (finished.outcome, finished.code) == ("failed", "INVALID_ACTION")
    stored = await world.get(request)
    assert (stored.status, stored.error_code) == (RequestStatus.FAILED, "INVALID_ACTION")
    assert world.recorder.of(ActionUnknown) == [ActionUnknown(action="nobody_knows")]


async def test_a_whole_worker_leaves_an_action_that_a_row_lists(world: World) -> None:
    """Only as long as the Beat of that row changes."""
    request = await world.enqueue("theirs")
    await world.stores.workers.register(member("other", "theirs"))

    alive = anyio.CancelScope()

    async def keep_alive() -> None:
        with alive:
            while True:
                await world.stores.workers.beat("other", in_flight=0, draining=False, sweeps=0)
                await anyio.sleep(4)

    timeout = 120.0
    poll = PollSettings(min_interval=0.5, max_interval=2.0, unknown_action_timeout=timeout)
    async with running(world.app([echo], poll=poll)), anyio.create_task_group() as tasks:
        tasks.start_soon(keep_alive)
        await anyio.sleep(10 * timeout)
        assert (await world.get(request)).status is RequestStatus.PENDING
        alive.cancel()
        await world.recorder.wait_for(RequestFinished, within=3600)
    assert (await world.get(request)).error_code == "INVALID_ACTION"


@pytest.mark.parametrize(("rank", "waits"), [(1, 1), (2, 2), (3, 3), (4, 3)])
async def test_requests_homed_elsewhere_are_stolen_by_rank(
    rank: int, waits: int, world: World, bench: PollBench
) -> None:
    """A worker of rank 1 waits one `steal_delay`, of rank 2 two, of higher ranks three."""
    bench.fleet = fleet(*(member(f"other-{number}") for number in range(4)))
    await anyio.sleep(1000)
    name = await ranked(world, bench.fleet, rank)
    patience = waits * STEAL_DELAY
    assert await polled_for(bench, patience - 0.05, every=0.05) == []
    await anyio.sleep(0.1)
    assert await bench.poll() == [name]


async def test_own_requests_are_claimed_at_once(world: World, bench: PollBench) -> None:
    """They are claimed without a delay, however many other workers there are."""
    bench.fleet = fleet(*(member(f"other-{number}") for number in range(4)))
    name = await ranked(world, bench.fleet, 0)
    assert await bench.poll() == [name]


async def test_a_request_that_came_back_is_left_to_its_home_again(
    world: World, bench: PollBench
) -> None:
    """A new Version counts as not seen before, so its home has the first chance again."""
    bench.fleet = fleet(member("other"))
    name = await ranked(world, bench.fleet, 1)
    assert await polled_for(bench, STEAL_DELAY - 0.1, every=0.1) == []
    page = await world.stores.requests.entries(RequestStatus.PENDING, limit=1)
    await world.stores.requests.release(await world.stores.requests.claim(page.candidates[0]))
    assert await polled_for(bench, STEAL_DELAY - 0.1, every=0.1) == []
    await anyio.sleep(0.2)
    assert await bench.poll() == [name]


@pytest.mark.parametrize("other", [member("other", draining=True), member("other", "other_work")])
async def test_a_worker_that_cannot_run_a_request_is_not_its_home(
    other: WorkerRow, world: World, bench: PollBench
) -> None:
    """A worker that drains, or does not list the action, is not waited for."""
    name = await ranked(world, fleet(member("other")), 1)
    bench.fleet = fleet(other)
    assert await bench.poll() == [name]


async def test_a_request_without_an_action_is_claimed_by_any_worker(
    world: World, bench: PollBench
) -> None:
    """It has no home, and fails when it is claimed."""
    bench.fleet = fleet(*(member(f"other-{number}") for number in range(4)))
    await world.put_pending("odd")
    assert await bench.poll() == []
    item = await world.engine.inner.get(REQUESTS, "odd")
    assert item is not None
    assert (item["Status"], item["ErrorCode"]) == ({"S": "FAILED"}, {"S": "INVALID_REQUEST"})


async def test_a_broken_request_is_claimed_whatever_its_action(
    world: World, bench: PollBench
) -> None:
    """No worker can run it, so any worker that has seen it long enough fails it."""
    bench.fleet = fleet(*(member(f"other-{number}", "theirs") for number in range(4)))
    await world.put_pending("odd", Action={"S": "theirs"}, Version={"N": "1"})
    assert await polled_for(bench, 3 * STEAL_DELAY + 0.1, every=0.1) == []
    item = await world.engine.inner.get(REQUESTS, "odd")
    assert item is not None
    assert item["Status"] == {"S": "FAILED"}


async def test_two_workers_do_not_meet_at_a_claim(world: World) -> None:
    """Once they know of each other, each claims its own requests, and no claim is lost."""
    async with running(world.app([echo])), running(world.app([echo])):
        await world.recorder.wait_for(HeartbeatTried, 4)
        requests = [await world.enqueue() for _ in range(60)]
        await world.recorder.wait_for(RequestFinished, 60)
    assert {event.outcome for event in world.recorder.of(ClaimTried)} == {"won"}
    stored = await world.stores.requests.get_many(request.request_id for request in requests)
    assert len({request.worker_id for request in stored.values()}) == 2
