"""The HTTP server of a real worker with many peers, and without file descriptors."""

from __future__ import annotations

import os
import resource
import shlex
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import anyio
import pytest

from processes import COMMAND, Process, page
from streamer_store import AsyncRequest, RequestStatus, Stores
from streamer_store.transitions import TERMINAL

pytestmark = pytest.mark.anyio
PEERS: Final = 1_100
DESCRIPTORS: Final = 1_024
MEASURED: Final = 3.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Raise the limit of this process, so that it can hold all peers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = PEERS + 500
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"this process may have only {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def worker_with(descriptors: int, **settings: str) -> Process:
    """Start a worker with a limit of open files, as `ulimit -n` sets it."""
    script = f"ulimit -n {descriptors}; exec {shlex.join([*COMMAND, 'run'])}"
    return Process("-c", script, executable="sh", **settings)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


async def share_of_a_core(pid: int) -> float:
    used, began = cpu_seconds(pid), time.monotonic()
    await anyio.sleep(MEASURED)
    return (cpu_seconds(pid) - used) / (time.monotonic() - began)


def healthy_within(url: str) -> float:
    """Return the seconds until the health check was answered."""
    began = time.monotonic()
    assert '"alive": true' in page(url.replace("/metrics", "/healthz"))
    return time.monotonic() - began


async def _all_completed(stores: Stores, requests: list[AsyncRequest]) -> int:
    ids = [request.request_id for request in requests]
    with anyio.fail_after(30):
        while True:
            stored = (await stores.requests.get_many(ids)).values()
            if all(request.status in TERMINAL for request in stored):
                return sum(request.status is RequestStatus.COMPLETED for request in stored)
            await anyio.sleep(0.1)


@pytest.mark.usefixtures("many_descriptors")
async def test_silent_peers_do_not_disturb_the_worker(
    real: tuple[Stores, dict[str, str]], plugins: str, tmp_path: Path
) -> None:
    """There are more peers than the worker may have descriptors. Health checks are answered,
    handlers can open files, and the process uses hardly any CPU.
    """
    stores, settings = real
    with worker_with(DESCRIPTORS, PYTHONPATH=plugins, **settings) as worker, ExitStack() as peers:
        url = worker.event("worker_started")["metrics_url"]
        address = urlsplit(url)
        for _ in range(PEERS):
            peer = socket.create_connection((address.hostname, address.port), timeout=10)
            peers.enter_context(peer)
        assert healthy_within(url) < 1.0
        requests = (
            await stores.requests.enqueue_many(
                AsyncRequest(
                    action="work",
                    payload={"file": str(tmp_path / "effects"), "seconds": 0},
                    max_retries=0,
                )
                for _ in range(50)
            )
        ).records
        assert await _all_completed(stores, requests) == 50
        assert await share_of_a_core(worker.pid) < 0.05
        assert healthy_within(url) < 1.0


async def test_peers_that_reconnect_cost_little(
    real: tuple[Stores, dict[str, str]], plugins: str
) -> None:
    """Two hundred peers reconnect as soon as they are closed. Afterwards the worker is healthy."""
    _, settings = real
    with worker_with(DESCRIPTORS, PYTHONPATH=plugins, **settings) as worker:
        url = worker.event("worker_started")["metrics_url"]
        address = urlsplit(url)

        async def reconnect() -> None:
            while True:
                async with await anyio.connect_tcp(
                    address.hostname or "", address.port or 0
                ) as peer:
                    with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                        await peer.receive()

        async with anyio.create_task_group() as tasks:
            for _ in range(200):
                tasks.start_soon(reconnect)
            await anyio.sleep(MEASURED)  # the first burst is not measured
            share = await share_of_a_core(worker.pid)
            tasks.cancel_scope.cancel()
        assert share < 0.15
        assert healthy_within(url) < 3.0


async def test_without_descriptors_the_server_waits(
    real: tuple[Stores, dict[str, str]], plugins: str
) -> None:
    """It uses hardly any CPU, logs one line, and answers as soon as it has descriptors."""
    _, settings = real
    with worker_with(DESCRIPTORS, PYTHONPATH=plugins, **settings) as worker:
        url = worker.event("worker_started")["metrics_url"]
        limits = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port), timeout=10):
            worker.event("step_failed", loop="http")
            assert await share_of_a_core(worker.pid) < 0.05
            resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, limits)
            assert healthy_within(url) < 3.0
        assert len([line for line in worker.lines if '"loop": "http"' in line]) == 1
        assert "Traceback" not in "".join(line for line in worker.lines if not line.startswith("{"))
