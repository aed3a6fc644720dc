"""Messages about requests with a unique key, whose runs share an id."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import anyio
import pytest

from streamer_store import AsyncRequest, Progress
from streamer_store.times import format_time
from streamer_worker.handlers.client_message import ClientMessage
from streamer_worker.push.announcer import Announcer
from streamer_worker.push.messages import encode
from unit.worker.harness import World, virtual_time
from unit.worker.push.notifier_bench import opened

pytestmark = pytest.mark.anyio


async def every_message(world: World, **fields: Any) -> list[dict[str, Any]]:
    """Return the JSON of each kind of message about a request with these fields."""
    request = replace((await world.claim("work")).request, **fields)
    announcer = Announcer(push=world.pushed.append, clock=world.clock)
    announcer.progressed(request, Progress(0.5))
    announcer.completed(request, {"n": 1})
    announcer.failed(request, code="NO", text="no")
    announcer.cancelled(request)
    announcer.sent(request, ClientMessage(data="{}", user=None, tenant=None))
    return [json.loads(encode(message)) for message in world.pushed]


async def test_every_message_tells_the_runs_of_a_key_apart(world: World) -> None:
    """By CreatedAt, as the table has it."""
    created_at = world.clock.now()
    messages = await every_message(world, unique_key="k", created_at=created_at)
    assert [message["created_at"] for message in messages] == [format_time(created_at)] * 5


async def test_other_messages_are_as_before(world: World) -> None:
    """A request without a key is the only one with its id."""
    assert not any("created_at" in message for message in await every_message(world))


@virtual_time
async def test_progress_of_a_run_goes_to_nobody_of_the_run_before(world: World) -> None:
    """Its subscriptions are gone, although they were read a moment ago."""
    first = world.clock.now()
    async with opened(world) as bench:
        await bench.connect("c1", "c2")
        await bench.subscribe("c1")
        bench.progress("first", run=first)
        await anyio.sleep(1)
        await world.stores.subscriptions.unsubscribe("c1", "r1")
        await bench.subscribe("c2")
        bench.progress("second", run=first + timedelta(seconds=1))
        await anyio.sleep(1)
    assert bench.gateway.messages("c1") == ["first"]
    assert bench.gateway.messages("c2") == ["second"]


async def test_a_failure_in_the_table_has_it_too(world: World) -> None:
    """Its request is read for that."""
    request = AsyncRequest(action="work", unique_key="k")
    stored = await world.stores.requests.enqueue(request)
    announcer = Announcer(push=world.pushed.append, clock=world.clock)
    await announcer.failed_in_table(world.stores.requests, stored.request_id, code="NO", text="no")
    assert world.pushed[-1].run == stored.created_at
