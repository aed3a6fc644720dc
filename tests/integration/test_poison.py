"""A request that ends its workers, in real processes that are restarted each time."""

from __future__ import annotations

import signal
import threading
from itertools import chain
from typing import TYPE_CHECKING

import pytest

from integration.fast import FAST, ended
from plugins import plugin
from processes import Process
from streamer_store import AsyncRequest, RequestStatus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from streamer_store import Stores

pytestmark = [pytest.mark.anyio, pytest.mark.local]

HANDLERS = """
    import os
    import anyio
    from streamer_worker import handler

    @handler("innocent")
    async def innocent(payload, ctx):
        await anyio.sleep(0.5)

    @handler("poison")
    async def poison(payload, ctx):
        await anyio.sleep(0.3)
        os._exit(3)
"""
# The sixth loss ends it; the waits before add up to 62 s at most, and each loss takes a lease.
WITHIN = 150.0


class Supervisor(threading.Thread):
    """Restarts a worker each time it has ended, until `stop`."""

    def __init__(self, settings: dict[str, str]) -> None:
        super().__init__()
        self.codes: list[int] = []
        self._settings = settings
        self._stopped = False
        self._worker: Process | None = None

    def run(self) -> None:
        while not self._stopped:
            with Process("run", **self._settings) as worker:
                self._worker = worker
                self.codes.append(worker.ended(within=WITHIN))

    def stop(self) -> None:
        self._stopped = True
        if self._worker is not None:
            self._worker.signal(signal.SIGKILL)
        self.join()


@pytest.fixture
def supervisors(real: tuple[Stores, dict[str, str]], tmp_path: Path) -> Iterator[list[Supervisor]]:
    """Start two supervised workers."""
    path = plugin(
        tmp_path, "dangerous", HANDLERS, *(f"{n} = dangerous:{n}" for n in ("innocent", "poison"))
    )
    settings = FAST | real[1] | {"PYTHONPATH": str(path)}
    supervisors = [Supervisor(settings) for _ in range(2)]
    for supervisor in supervisors:
        supervisor.start()
    yield supervisors
    for supervisor in supervisors:
        supervisor.stop()


@pytest.mark.timeout(WITHIN + 60)
async def test_a_poison_fails_and_its_neighbours_complete(
    real: tuple[Stores, dict[str, str]], supervisors: list[Supervisor]
) -> None:
    """60 other requests are COMPLETED without a used attempt. The poison is FAILED."""
    stores, _ = real
    actions = ["innocent"] * 30 + ["poison"] + ["innocent"] * 30
    stored = (
        await stores.requests.enqueue_many(AsyncRequest(action=action) for action in actions)
    ).records
    requests = await ended(stores, *(request.request_id for request in stored), within=WITHIN)
    innocent = [request for request in requests if request.action == "innocent"]
    (poison,) = (request for request in requests if request.action == "poison")
    outcomes = {(request.status, request.retry_count) for request in innocent}
    assert outcomes == {(RequestStatus.COMPLETED, 0)}
    assert (poison.status, poison.error_code) == (RequestStatus.FAILED, "WORKER_LOST")
    assert (poison.rescues, poison.solo) == (6, 4)
    assert sorted(chain.from_iterable(supervisor.codes for supervisor in supervisors)) == [3] * 6
