"""Real workers: `streamer-worker run` with the handlers of bench/handlers.py."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import anyio
from prometheus_client.parser import text_string_to_metric_families

from bench.children import START_TIMEOUT, Child, child
from bench.database import Tables
from bench.handlers import NAMES
from plugins import plugin
from processes import page

WORKER: Final = (str(Path(sys.executable).with_name("streamer-worker")), "run")
SINGLE_WRITES: Final = {"batch_writes": "false"}
"""The setting for single writes. DynamoDB Local reports no capacity for batches."""


class Worker:
    """A worker that has started."""

    def __init__(self, process: Child, *, url: str) -> None:
        self.process = process
        self.url = url
        """The address of its metrics."""

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of the samples with this name and these labels."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(page(self.url))
            for sample in family.samples
            if sample.name == f"streamer_worker_{name}" and labels.items() <= sample.labels.items()
        )


def worker_environment(folder: Path, tables: Tables, **settings: str) -> dict[str, str]:
    """Return the environment of a worker. settings: `push="off"` is STREAMER_PUSH=off."""
    installed = folder / "bench_plugin"
    if not installed.exists():
        plugin(folder, "bench_plugin", "", *(f"{name} = bench.handlers:{name}" for name in NAMES))
    defaults = {"push": "off", "http_host": "127.0.0.1", "http_port": "0"}
    return {
        "STREAMER_ENDPOINT_URL": tables.url,
        "STREAMER_TABLE_PREFIX": tables.prefix,
        "PYTHONPATH": str(installed),
    } | {f"STREAMER_{name.upper()}": value for name, value in (defaults | settings).items()}


@contextmanager
def start_worker(folder: Path, tables: Tables, **settings: str) -> Iterator[Child]:
    """Start a worker, without waiting for its start."""
    environment = worker_environment(folder, tables, **settings)
    with child(WORKER, folder=folder, environment=environment) as process:
        yield process


@asynccontextmanager
async def open_worker(folder: Path, tables: Tables, **settings: str) -> AsyncIterator[Worker]:
    """Start a worker, and wait until it runs."""
    with start_worker(folder, tables, **settings) as process:
        yield await started(process)


async def started(process: Child) -> Worker:
    """Wait until a worker runs, and return it."""
    event = await process.event("worker_started")
    return Worker(process, url=event["metrics_url"])


async def wait_until_fleet_is_known(workers: list[Worker]) -> None:
    """Wait until each of the workers considers all of them live."""
    with anyio.fail_after(START_TIMEOUT):
        for worker in workers:
            while worker.metric("workers", state="live") < len(workers):  # noqa: ASYNC110
                await anyio.sleep(0.2)  # nothing announces it
