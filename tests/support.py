"""Things that several tests need."""

from __future__ import annotations

import asyncio
import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from streamer_store import Clock, Connection, SystemClock
from streamer_store.engine import Engine
from streamer_worker.events import Events, Listener
from streamer_worker.runtime import Runtime

# Ahead of the real time: DynamoDB Local deletes what has expired, 20 items at a time.
START = datetime(2066, 3, 14, 15, 9, 26, 535897, tzinfo=UTC)


def make_runtime(*listeners: Listener, clock: Clock | None = None) -> Runtime:
    """Make a runtime with a fixed seed, whose events these listeners receive.

    clock: the system's unless given.
    """
    rng = random.Random(7)
    return Runtime(clock=clock or SystemClock(), rng=rng, events=Events(*listeners))


def cache_folder() -> Path:
    """Return the folder in which the scripts in .ci keep what they download and build."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamer-worker"


def unique_prefix() -> str:
    """Return a prefix for tables of one's own."""
    return f"t{random.SystemRandom().getrandbits(48):012x}_"


def unrelated_names() -> dict[str, str]:
    """Return names for four tables of one's own that have no prefix in common."""
    own = unique_prefix()[:-1]
    return {
        "connections": f"sockets.{own}",
        "requests": f"jobs-{own}",
        "subscriptions": f"{own}_Interest_list",
        "workers": f"Fleet{own}",
    }


def client_of(engine: Engine) -> Any:
    """Return the client of an engine on DynamoDB, whether or not it sends writes together."""
    single: Any = engine
    while hasattr(single, "_engine"):
        single = single._engine
    return single._client


def connection(connection_id: str, *, connected_at: datetime, **fields: Any) -> Connection:
    """Return a connection of the user `u` and the tenant `t`, unless `fields` say otherwise."""
    defaults = {"user_id": "u", "tenant_id": "t", "endpoint": "wss://example.com"}
    return Connection(connection_id=connection_id, connected_at=connected_at, **defaults | fields)


class ManualClock:
    """A clock that moves only when a test advances it."""

    def __init__(self) -> None:
        self._now = START
        self._steady = 1000.0

    def now(self) -> datetime:
        return self._now

    def steady(self) -> float:
        return self._steady

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._steady += seconds


def open_sockets() -> int:
    """Count the sockets of the running asyncio loop, its own among them."""
    return len(asyncio.get_running_loop()._selector.get_map())  # type: ignore[attr-defined]


async def until_open_sockets(most: int = 1) -> None:
    """Wait until the running asyncio loop has at most so many sockets; one is its own.

    A TLS connection that is closed after a timeout waits for the other side's goodbye. If its
    loop ends before that, a later test fails when the garbage collector finds the socket.
    """
    async with asyncio.timeout(10):
        while open_sockets() > most:  # noqa: ASYNC110  nothing announces it
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)  # the last of them learns of it
