"""Limits, turns and retries: nobody is kept waiting while slots are free."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import anyio
import pytest

from streamer_worker import Context, RetryLater, handler, poller
from streamer_worker.events import RequestFinished, RequestStarted
from streamer_worker.settings import PollSettings, PresenceSettings
from support import START
from unit.worker.harness import Waiting, World, echo, running, virtual_time

pytestmark = [pytest.mark.anyio, virtual_time]
SLOW = PollSettings(fastest=0.5, slowest=5)
# A lone worker beats seldom here, so that time passes in few steps.
SELDOM = PresenceSettings(heartbeat=60, lease=240)


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
