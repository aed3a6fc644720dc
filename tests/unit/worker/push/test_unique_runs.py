"""Messages about requests with a unique key, whose runs share an id."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from streamer_store import AsyncRequest, Progress
from streamer_store.times import format_time
from streamer_worker.handlers.client_message import ClientMessage
from streamer_worker.push.announcer import Announcer
from streamer_worker.push.messages import encode
from unit.worker.harness import World

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


async def test_a_failure_in_the_table_has_it_too(world: World) -> None:
    """Its request is read for that."""
    request = AsyncRequest(action="work", unique_key="k")
    stored = await world.stores.requests.enqueue(request)
    announcer = Announcer(push=world.pushed.append, clock=world.clock)
    await announcer.failed_in_table(world.stores.requests, stored.request_id, code="NO", text="no")
    assert world.pushed[-1].run == stored.created_at
