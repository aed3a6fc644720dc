"""Upkeep: the sweep of stale connections, and the recovery of a lost worker's requests."""

from __future__ import annotations

import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from bench.database import fresh_tables
from bench.payloads import payload
from bench.results import Figure, Part, say
from bench.workers import SINGLE_WRITES, open_worker, wait_until_fleet_is_known
from capacity import consumed, split
from streamer_store.codec import connection_item
from support import connection

_STALE_PART: Final = 100
"""One connection in a hundred is stale."""
_PATIENCE: Final = 600.0
_RECOVERY_PATIENCE: Final = 120.0


async def sweep(url: str, folder: Path, connections: int) -> Part:
    """Let a worker sweep so many connections, of which one in a hundred is stale."""
    now = datetime.now(UTC)
    items = (
        connection_item(
            connection(
                f"connection-{number}",
                connected_at=now - timedelta(days=1),
                last_ping=now - timedelta(hours=3 if number % _STALE_PART == 0 else 0),
                ttl=int(now.timestamp()) + 86_400,
            )
        )
        for number in range(connections)
    )
    async with fresh_tables(url) as tables:
        await tables.put_all("connections", items)
        async with open_worker(folder, tables, **SINGLE_WRITES) as worker:
            cpu = worker.process.cpu()
            event = await worker.process.event("connections_reaped", within=_PATIENCE)
            cpu = worker.process.cpu() - cpu
            units = consumed(worker.url)
            peak = worker.process.peak_rss()
    if event["deleted"] != connections // _STALE_PART:
        raise RuntimeError(f"{event['deleted']} stale connections were deleted")
    for table, operation in list(units):
        if table not in {"connections", "subscriptions"}:
            del units[table, operation]
    read, written = split(units)
    name = f"{connections:,} connections, 1 % stale"
    say(f"reaper, {name}: {event['seconds']:.1f} s")
    return Part(
        name="reaper",
        figures=[
            Figure(name=name, unit="s", samples=[event["seconds"]]),
            Figure(name=name, unit="CPU s", samples=[cpu]),
            Figure(name=name, unit="read units", samples=[read]),
            Figure(name=name, unit="write units", samples=[written]),
            Figure(name=name, unit="MB peak RSS", samples=[peak]),
        ],
    )


async def recovery(url: str, folder: Path, rounds: int) -> Part:
    """Kill a worker that runs a request, and wait until another one starts the request."""
    samples = [await _recover(url, folder) for _ in range(rounds)]
    figure = Figure(name="after SIGKILL, default settings", unit="s", samples=samples, at_most=20)
    say(f"recovery after SIGKILL: {figure.value:.1f} s")
    return Part(name="recovery", figures=[figure])


async def _recover(url: str, folder: Path) -> float:
    """Return the seconds from the end of one worker to the next start of its request."""
    async with (
        fresh_tables(url) as tables,
        open_worker(folder, tables) as first,
        open_worker(folder, tables) as second,
    ):
        await wait_until_fleet_is_known([first, second])
        body = payload(300) | {"seconds": 300}
        await tables.enqueue(1, action="wait", payload=body, max_retries=3)

        def is_started() -> bool | None:
            return first.process.counter.value + second.process.counter.value > 0 or None

        await first.process.wait_for(is_started, "start", within=_RECOVERY_PATIENCE)
        holder, other = (first, second) if first.process.counter.value else (second, first)
        holder.process.send(signal.SIGKILL)
        killed = time.monotonic()
        await other.process.wait_for_count(1, within=_RECOVERY_PATIENCE)
        return time.monotonic() - killed
