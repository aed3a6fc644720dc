"""A real worker under a service manager that the tests play: notifications and signals."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

from integration.fast import FAST, ended
from manager import PATIENCE, Manager
from plugins import plugin
from processes import Process
from streamer_store import AsyncRequest, RequestStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from integration.proxy import Proxy
    from streamer_store import Stores

pytestmark = [pytest.mark.anyio, pytest.mark.local]

WATCHDOG = 1.0
# A call through ctypes.PyDLL holds the GIL, so no other thread of the process runs.
CODE = """
    import ctypes, time
    from streamer_worker import handler

    @handler("freeze")
    def freeze(payload, ctx):
        ctypes.PyDLL(None).usleep(60_000_000)

    @handler("block")
    async def block(payload, ctx):
        time.sleep(payload["seconds"])
"""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify"))
    with manager.socket:
        yield manager


@pytest.fixture
def start(
    real: tuple[Stores, dict[str, str]],
    proxy: Proxy,
    manager: Manager,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Callable[[], Process]:
    """Yield a function that starts a worker as the unit does, and waits until it is ready."""
    path = plugin(tmp_path, "odd", CODE, "freeze = odd:freeze", "block = odd:block")
    more = {
        "PYTHONPATH": str(path),
        "STREAMER_ENDPOINT_URL": proxy.url,
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": f"{WATCHDOG * 1e6:.0f}",
    }

    def begin() -> Process:
        worker = Process("run", **(FAST | real[1] | more))
        request.addfinalizer(lambda: worker.__exit__(None, None, None))
        manager.next("READY=1")
        return worker

    return begin


def fed_for(manager: Manager, seconds: float) -> bool:
    """Return whether the watchdog was fed in time for that long."""
    manager.flush()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        manager.socket.settimeout(WATCHDOG)
        try:
            fed = "WATCHDOG=1" in manager.next("STATUS=")
        except TimeoutError:
            return False
        finally:
            manager.socket.settimeout(PATIENCE)
        if not fed:
            return False
    return True


async def test_from_ready_to_stopped(manager: Manager, start: Callable[[], Process]) -> None:
    """It sends READY once polling, STATUS during work, STOPPING at SIGTERM, and exits with 0."""
    with start() as worker:
        assert manager.next("STATUS=working, 0 of 32 slots used")
        assert manager.next("STATUS=working, 0 of 32 slots used, 0 PENDING, 0 RETRYING")
        worker.signal(signal.SIGTERM)
        assert manager.next("STOPPING=1") == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=68000000"]
        assert worker.ended() == 0


async def test_an_outage_of_dynamodb_does_not_end_it(
    manager: Manager, proxy: Proxy, start: Callable[[], Process]
) -> None:
    """It feeds the watchdog during the outage, and works after it."""
    with start() as worker:
        proxy.refuse()
        worker.event("table_unavailable")
        assert fed_for(manager, 4 * WATCHDOG)
        proxy.listen()
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0


async def test_a_handler_that_blocks_the_loop_does_not_end_it(
    real: tuple[Stores, dict[str, str]], manager: Manager, start: Callable[[], Process]
) -> None:
    """It feeds the watchdog while the block is shorter than `stuck_after` (5 min by default)."""
    stores, _ = real
    with start() as worker:
        request = AsyncRequest(action="block", payload={"seconds": 4 * WATCHDOG})
        stored = await stores.requests.enqueue(request)
        await anyio.to_thread.run_sync(worker.event, "loop_blocked")
        assert await anyio.to_thread.run_sync(fed_for, manager, 2 * WATCHDOG)
        (request,) = await ended(stores, stored.request_id)
        assert request.status is RequestStatus.COMPLETED


async def test_a_frozen_process_is_ended_by_the_watchdog(
    real: tuple[Stores, dict[str, str]], manager: Manager, start: Callable[[], Process]
) -> None:
    """No thread runs, so nothing feeds the watchdog. The next worker runs the request."""
    stores, _ = real
    with start() as worker:
        await stores.requests.enqueue(
            AsyncRequest(action="freeze", request_id="frozen", max_retries=0)
        )
        assert not all(fed_for(manager, WATCHDOG) for _ in range(20))
        assert manager.is_silent(2 * WATCHDOG)
        worker.signal(signal.SIGKILL)  # as WatchdogSignal says
        assert worker.ended() == -signal.SIGKILL
    with start():
        (request,) = await ended(stores, "frozen")
        assert (request.status, request.error_code) == (RequestStatus.FAILED, "WORKER_LOST")
