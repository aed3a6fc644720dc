"""One export, import, bare scan or bare write, in a process of its own.

Run as `python -m bench.transfer_child export|import|scan|write URL PREFIX TARGET` by
bench/transfer.py. Prints the seconds, the items, and the memory before and at its peak, in MB.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import anyio

from bench.database import open_client
from streamer_store import export_tables, import_tables, open_stores

SEGMENTS: Final = 4
_BATCH: Final = 25
_WRITERS: Final = 8
Work = Callable[[], Awaitable[int]]


async def _export(url: str, prefix: str, target: str) -> None:
    async with open_stores(endpoint_url=url, prefix=prefix) as stores:

        async def work() -> int:
            exported = await export_tables(stores, target, segments=SEGMENTS)
            return sum(exported.items.values())

        await _measure(work)


async def _import(url: str, prefix: str, target: str) -> None:
    async with open_stores(endpoint_url=url, prefix=prefix) as stores:

        async def work() -> int:
            return (await import_tables(stores, target)).written

        await _measure(work)


async def _scan(url: str, prefix: str, _target: str) -> None:
    """Scan the requests in parallel segments, with DynamoDB's client and nothing else."""
    async with open_client(url) as client:

        async def work() -> int:
            counts = []

            async def scan_segment(segment: int) -> None:
                key: dict[str, Any] = {}
                while True:
                    page = await client.scan(
                        TableName=f"{prefix}requests",
                        ConsistentRead=True,
                        Segment=segment,
                        TotalSegments=SEGMENTS,
                        **key,
                    )
                    counts.append(len(page["Items"]))
                    if "LastEvaluatedKey" not in page:
                        return
                    key = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

            async with anyio.create_task_group() as tasks:
                for segment in range(SEGMENTS):
                    tasks.start_soon(scan_segment, segment)
            return sum(counts)

        await _measure(work)


async def _write(url: str, prefix: str, target: str) -> None:
    """Write the requests of an export, which are in memory, with BatchWriteItem alone."""
    items = [
        json.loads(line)["Item"]
        for path in sorted(Path(target).glob("requests/*.json.gz"))  # noqa: ASYNC240
        for line in gzip.decompress(path.read_bytes()).splitlines()
    ]
    batches = iter([items[start : start + _BATCH] for start in range(0, len(items), _BATCH)])
    async with open_client(url) as client:

        async def write_batches() -> None:
            for batch in batches:
                puts: list[Any] = [{"PutRequest": {"Item": item}} for item in batch]
                answer = await client.batch_write_item(RequestItems={f"{prefix}requests": puts})
                if answer["UnprocessedItems"]:
                    raise RuntimeError("DynamoDB Local left items of a batch unprocessed")

        async def work() -> int:
            async with anyio.create_task_group() as tasks:
                for _ in range(_WRITERS):
                    tasks.start_soon(write_batches)
            return len(items)

        await _measure(work)


async def _measure(work: Work) -> None:
    Path("/proc/self/clear_refs").write_text("5")  # noqa: ASYNC240  resets the peak
    before = _memory("VmRSS")
    started = time.perf_counter()
    items = await work()
    found = {
        "seconds": time.perf_counter() - started,
        "items": items,
        "before": before,
        "peak": _memory("VmHWM"),
    }
    sys.stdout.write(json.dumps(found) + "\n")


def _memory(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise RuntimeError(f"/proc/self/status has no {name}")
    return int(found[1]) * 1024 / 1e6


if __name__ == "__main__":
    works = {"export": _export, "import": _import, "scan": _scan, "write": _write}
    kind, url, prefix, target = sys.argv[1:]
    anyio.run(works[kind], url, prefix, target)
