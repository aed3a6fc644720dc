"""A request that has ended, and a handler without effects."""

from __future__ import annotations

from typing import Any

from streamer_store import AsyncRequest
from streamer_worker import Context
from streamer_worker.events import RequestFinished
from unit.worker.harness import World


async def finished(world: World, action: str, **fields: Any) -> AsyncRequest:
    """Enqueue a request and return it once it has ended."""
    times = len(world.recorder.of(RequestFinished)) + 1
    request = await world.enqueue(action, **fields)
    await world.recorder.wait_for(RequestFinished, times)
    return await world.get(request)


async def nothing(payload: dict[str, Any], ctx: Context) -> None: ...
