"""Export and import: beside a live load, and beside a bare scan and bare writes."""

from __future__ import annotations

import gzip
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import anyio

from bench.children import child
from bench.database import Tables, fresh_tables
from bench.payloads import payload
from bench.results import RATIO, Figure, Part, say
from bench.workers import open_worker
from streamer_store import AsyncRequest, RequestStatus, Stores, open_stores

_PER_SECOND: Final = 50
_MORE_MEMORY: Final = 60
_PATIENCE: Final = 900.0
Found = Mapping[str, float]


async def measure(url: str, folder: Path, requests: int, rounds: int) -> Part:
    """Export so many requests beside a worker, and import them. Raises if one is lost."""
    found: dict[str, list[Found]] = {name: [] for name in ("scan", "export", "write", "import")}
    live: list[Found] = []
    async with fresh_tables(url) as source:
        await source.wait_until_tomorrow(requests, action="noop")
        for number in range(rounds):
            target = folder / f"export-{number}"
            found["scan"].append(await _run("scan", folder, source, target))
            found["export"].append(await _run("export", folder, source, target))
            for name in ("write", "import"):
                async with fresh_tables(url) as empty:
                    found[name].append(await _run(name, folder, empty, target))
                    count = await empty.count("RETRYING")
                if count != requests:
                    raise RuntimeError(f"{name}: {count} of {requests} requests are there")
        live.append(await _beside_live_load(folder, source, requests))
    name = f"{requests:,} requests"
    ratios = [
        _ratio("items/s, export / bare parallel scan", found["export"], found["scan"]),
        _ratio("items/s, import / bare BatchWriteItem", found["import"], found["write"]),
    ]
    figures = [
        Figure(name=f"{kind}, {name}", unit="s", samples=[each["seconds"] for each in of_kind])
        for kind, of_kind in (found | {"export beside 50 requests/s": live}).items()
    ]
    memory = [
        Figure(
            name=f"{kind}, above idle",
            unit="MB peak RSS",
            samples=[each["peak"] - each["before"] for each in found[kind]],
            at_most=_MORE_MEMORY,
        )
        for kind in ("export", "import")
    ]
    for figure in [*ratios, *figures, *memory]:
        say(f"transfer, {figure.name}: {figure.value:.2f} {figure.unit}")
    return Part(name="transfer", figures=[*ratios, *figures, *memory])


def _ratio(name: str, ours: list[Found], bare: list[Found]) -> Figure:
    pairs = zip(ours, bare, strict=True)
    samples = [theirs["seconds"] / our["seconds"] for our, theirs in pairs]
    return Figure(name=name, unit=RATIO, samples=samples, at_least=0.5)


async def _run(name: str, folder: Path, tables: Tables, target: Path) -> Found:
    """Run a process of bench/transfer_child.py, and return what it found."""
    arguments = [sys.executable, "-m", "bench.transfer_child", name, tables.url, tables.prefix]
    with child([*arguments, str(target)], folder=folder, environment={}) as process:

        def find() -> dict[str, Any] | None:
            lines = process.output().splitlines()
            if not lines or not lines[-1].startswith("{"):
                return None
            found: dict[str, Any] = json.loads(lines[-1])
            return found

        return await process.wait_for(find, "figures", within=_PATIENCE)


async def _waiting_ids(stores: Stores) -> list[str]:
    ids: list[str] = []
    cursor = None
    while True:
        page = await stores.requests.entries(RequestStatus.RETRYING, limit=1000, cursor=cursor)
        ids += [entry.request_id for entry in page.candidates]
        cursor = page.cursor
        if cursor is None:
            return ids


async def _beside_live_load(folder: Path, tables: Tables, requests: int) -> Found:
    """Export while a worker runs 50 requests a second. Raises if a request is missing."""
    target = folder / "export-live"
    sent = 0
    async with (
        open_stores(endpoint_url=tables.url, prefix=tables.prefix) as stores,
        open_worker(folder, tables) as worker,
        anyio.create_task_group() as tasks,
    ):

        async def enqueue() -> None:
            nonlocal sent
            started = time.monotonic()
            while True:
                await stores.requests.enqueue(AsyncRequest(action="noop", payload=payload(300)))
                sent += 1
                await anyio.sleep(max(0.0, started + sent / _PER_SECOND - time.monotonic()))

        tasks.start_soon(enqueue)
        await worker.process.wait_for_count(_PER_SECOND, within=60.0)
        waiting = await _waiting_ids(stores)
        before = sent
        found = await _run("export", folder, tables, target)
        if sent == before:
            raise RuntimeError("there was no load during the export")
        tasks.cancel_scope.cancel()
    exported = {
        json.loads(line)["Item"]["RequestID"]["S"]
        for path in target.glob("requests/*.json.gz")
        for line in gzip.decompress(path.read_bytes()).splitlines()
    }
    if len(waiting) != requests or not exported.issuperset(waiting):
        raise RuntimeError(f"{len(set(waiting) - exported)} of {len(waiting)} requests are lost")
    return found
