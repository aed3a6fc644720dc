"""What a worker leaves to others, and what it does not let others keep from it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import anyio
import pytest

from streamer_store import RequestStatus, WorkerRow
from streamer_worker import Context, RetryLater, handler, poller
from streamer_worker.events import ActionUnknown, RequestFinished, RequestStarted
from streamer_worker.fleet import FleetView
from streamer_worker.settings import PollSettings, PresenceSettings
from support import START
from unit.worker.benches import PollBench
from unit.worker.harness import Waiting, World, echo, running, virtual_time

pytestmark = [pytest.mark.anyio, virtual_time]
STEAL_AFTER = 0.6
UNKNOWN_AFTER = 60.0
SLOW = PollSettings(fastest=0.5, slowest=5)
# A lone worker beats seldom here, so that time passes in few steps.
SELDOM = PresenceSettings(heartbeat=60, lease=240)


def row(name: str, *actions: str, draining: bool = False) -> WorkerRow:
    return WorkerRow(
        worker_id=name, started_at=START, actions=frozenset(actions), draining=draining
    )


def fleet(*others: WorkerRow) -> FleetView:
    return FleetView(live=(row("me", "echo"), *others))


async def homeless(world: World, view: FleetView, rank: int) -> str:
    """Enqueue a request for which `me` stands at that place in the line."""
    number = next(n for n in range(1000) if view.rank("me", f"r{n}", "echo") == rank)
    return (await world.enqueue(request_id=f"r{number}")).request_id


async def test_an_action_that_another_lists_is_left_to_it(world: World) -> None:
    """For as long as it lives: a rolling deploy fails nothing."""
    bench = PollBench(world)
    bench.fleet = fleet(row("new", "report"))
    await world.enqueue("report")
    for _ in range(5):
        assert await bench.poll() == []
        await anyio.sleep(UNKNOWN_AFTER)
    assert world.recorder.of(ActionUnknown) == []
    bench.close()


async def test_an_action_that_nobody_lists_fails_after_a_while(world: World) -> None:
    """Told once, when it is first seen."""
    async with running(world.app([echo], poll=SLOW)):
        request = await world.enqueue("report", max_retries=5)
        (told,) = await world.recorder.wait_for(ActionUnknown)
        began = anyio.current_time()
        (finished,) = await world.recorder.wait_for(RequestFinished, within=2 * UNKNOWN_AFTER)
        assert UNKNOWN_AFTER - 1 <= anyio.current_time() - began <= UNKNOWN_AFTER + 10
    assert (told.action, finished.code) == ("report", "INVALID_ACTION")
    assert len(world.recorder.of(ActionUnknown)) == 1
    assert (await world.get(request)).status is RequestStatus.FAILED


async def test_the_time_begins_again_when_somebody_had_the_action(world: World) -> None:
    """A worker that comes late in a deploy, and goes, has not used it up."""
    bench = PollBench(world)
    await world.enqueue("report")
    await bench.poll()
    await anyio.sleep(UNKNOWN_AFTER - 1)
    bench.fleet = fleet(row("new", "report"))
    assert await bench.poll() == []
    bench.fleet = fleet()
    await anyio.sleep(10)
    assert await bench.poll() == []
    bench.close()


@pytest.mark.parametrize("rank", [1, 2])
async def test_another_s_own_request_is_left_to_it_for_a_while(world: World, rank: int) -> None:
    """Those who are further back in the line wait longer."""
    bench = PollBench(world)
    bench.fleet = fleet(row("one", "echo"), row("two", "echo"))
    request_id = await homeless(world, bench.fleet, rank)
    assert await bench.poll() == []
    await anyio.sleep(rank * STEAL_AFTER - 0.1)
    assert await bench.poll() == []
    await anyio.sleep(0.2)
    assert await bench.poll() == [request_id]
    bench.close()


async def test_a_worker_that_drains_is_nobodys_home(world: World) -> None:
    """What would have been its own is taken at once."""
    bench = PollBench(world)
    draining = row("one", "echo", draining=True)
    bench.fleet = fleet(row("one", "echo"))
    request_id = await homeless(world, bench.fleet, 1)
    bench.fleet = fleet(draining)
    assert await bench.poll() == [request_id]
    bench.close()


async def test_a_saturated_head_never_hides_the_rest(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many pages of an action that is at its limit, then one of another."""
    monkeypatch.setattr(poller, "_LEAST", 4)
    monkeypatch.setattr(poller, "_PER_SLOT", 1)
    waiting = Waiting()
    limited = handler("wait", max_concurrency=2)(waiting.handler.function)
    for _ in range(60):
        await world.enqueue("wait")
    last = await world.enqueue("echo")
    async with running(world.app([limited, echo], concurrency=5)):
        (finished,) = await world.recorder.wait_for(RequestFinished)
        assert finished.request_id == last.request_id
        assert waiting.started == 2
        waiting.go.set()
        await world.recorder.wait_for(RequestFinished, 61)


async def test_no_tenant_takes_more_than_its_share(world: World) -> None:
    """The limit per tenant holds, and another tenant's requests run beside it."""
    running_now: dict[str | None, int] = {}
    most: dict[str | None, int] = {}

    @handler("work")
    async def work(_payload: dict[str, Any], ctx: Context) -> None:
        tenant = ctx.tenant_id
        running_now[tenant] = running_now.get(tenant, 0) + 1
        most[tenant] = max(most.get(tenant, 0), running_now[tenant])
        await anyio.sleep(1)
        running_now[tenant] -= 1

    for tenant in ["big"] * 30 + ["small"] * 5:
        await world.enqueue("work", tenant_id=tenant)
    async with running(world.app([work], concurrency=10, tenant_concurrency=3)):
        await world.recorder.wait_for(RequestFinished, 35, within=60)
    assert most == {"big": 3, "small": 3}


async def test_tenants_take_turns_for_slots(world: World) -> None:
    """A tenant with many requests delays another's few by a turn each."""
    tenants: list[str | None] = []

    @handler("work")
    async def work(_payload: dict[str, Any], ctx: Context) -> None:
        tenants.append(ctx.tenant_id)
        await anyio.sleep(0.1)

    for tenant in ["big"] * 50 + ["small"] * 2:
        await world.enqueue("work", tenant_id=tenant)
    async with running(world.app([work], concurrency=2)):
        await world.recorder.wait_for(RequestFinished, 52, within=60)
    assert tenants[:6].count("small") == 2


async def test_a_due_retry_starts_in_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a second, though the worker looks seldom and others stand before it in the index."""
    monkeypatch.setattr(poller, "_LEAST", 4)
    monkeypatch.setattr(poller, "_PER_SLOT", 1)
    after = 17.3

    @handler("later")
    async def later(_payload: dict[str, Any], ctx: Context) -> str:
        if not world.recorder.of(RequestFinished):
            raise RetryLater(after=after)
        return f"attempt {ctx.attempt}"

    async with running(world.app([later], poll=SLOW, presence=SELDOM)):
        request = await world.enqueue("later")
        await world.recorder.wait_for(RequestFinished)
        asked = anyio.current_time()
        for number in range(20):  # older, and due in a year
            await world.put_raw(
                RequestID={"S": f"older{number}"},
                Status={"S": "RETRYING"},
                Version={"S": str(number)},
                Action={"S": "later"},
                CreatedAt={"S": f"2001-01-01T00:00:{number:02}Z"},
                RetryAfter={"S": f"{START + timedelta(days=365):%Y-%m-%dT%H:%M:%SZ}"},
            )
        await world.recorder.wait_for(RequestStarted, 2, within=60)
        assert after <= anyio.current_time() - asked <= after + 1
    stored = await world.get(request)
    assert (stored.result, stored.retry_count) == ({"data": "attempt 1"}, 0)
