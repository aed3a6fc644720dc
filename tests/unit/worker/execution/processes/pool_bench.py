"""A pool of processes, and a channel that records."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest

from streamer_worker.changes import Changes
from streamer_worker.events import ChildStarted, Events
from streamer_worker.execution.processes.pool import Processes
from streamer_worker.handlers.client_message import ClientMessage
from streamer_worker.handlers.context import AttemptInfo
from streamer_worker.handlers.worker_channel import ProgressUpdate
from support import START
from unit.worker.faulty_engine import PATIENCE
from unit.worker.harness import Recorder

FACTS = AttemptInfo(
    request_id="r1",
    action="act",
    attempt=2,
    max_retries=3,
    deadline=START,
    metadata={"trace": 1},
    last_checkpoint=[5],
)
GRACE = 0.3


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on both, in real time."""
    return str(request.param)


class RecordingChannel:
    """A WorkerChannel that records what it gets, and can be waited for."""

    def __init__(self) -> None:
        self.draining = False
        self.cancelled = False
        self.reported: list[tuple[float | None, str | None, bool]] = []
        self.saved: list[Any] = []
        self.sent: list[ClientMessage] = []
        self.refuse: Exception | None = None
        self._changes = Changes()

    async def progress(self, update: ProgressUpdate) -> None:
        self.reported.append((update.fraction, update.message, update.reset))
        self._changes.notify()

    async def checkpoint(self, value: Any) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.saved.append(value)

    def report(self, *_: Any, **__: Any) -> bool:
        raise AssertionError("a process reports by `progress` only")

    def send(self, message: ClientMessage) -> None:
        self.sent.append(message)

    def notify(self) -> None:
        raise AssertionError("a process wakes nobody")

    async def until_reported(self, times: int = 1) -> None:
        with anyio.fail_after(PATIENCE):
            while len(self.reported) < times:
                await self._changes.wait()

    async def pid(self) -> int:
        """Return the process id, which is reported as the message."""
        await self.until_reported()
        return int(self.reported[0][1] or "")


class Bench:
    def __init__(self, pool: Processes, recorder: Recorder) -> None:
        self.pool = pool
        self.recorder = recorder
        self.channel = RecordingChannel()

    async def run(
        self,
        function: Callable[..., Any],
        payload: Any = None,
        channel: RecordingChannel | None = None,
    ) -> Any:
        with anyio.fail_after(PATIENCE):
            return await self.pool.run(function, payload, FACTS, channel or self.channel)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    recorder = Recorder()
    pool = Processes(limit=2, log=None, events=Events(recorder), grace=GRACE)
    async with pool:
        yield Bench(pool, recorder)


@pytest.fixture(scope="module")
async def shared_pool() -> AsyncIterator[Bench]:
    """Keep one process for many tests: starting it takes more time than most of them."""
    recorder = Recorder()
    pool = Processes(limit=1, log=None, events=Events(recorder), grace=GRACE)
    async with pool:
        yield Bench(pool, recorder)


@pytest.fixture
async def warm(shared_pool: Bench) -> AsyncIterator[Bench]:
    """Give a bench for tests that leave its process usable. It has served other tests before."""
    yield Bench(shared_pool.pool, shared_pool.recorder)
    assert len(shared_pool.recorder.of(ChildStarted)) == 1


async def gone(pid: int) -> None:
    """Wait until the process does not exist any more."""
    with anyio.fail_after(PATIENCE), suppress(ProcessLookupError):
        while True:
            os.kill(pid, 0)
            await anyio.sleep(0.01)


PARENT = """
    import anyio, sys
    from streamer_worker.events import ChildStarted, Events
    from streamer_worker.execution.processes.pool import Processes
    from unit.worker.execution.processes import functions
    from unit.worker.execution.processes.pool_bench import FACTS, RecordingChannel

    class PrintingChannel(RecordingChannel):
        async def progress(self, update):
            print(update.message, flush=True)

    async def main():
        async with Processes(limit=1, log=None, events=Events(), grace=1) as pool:
            await pool.run(functions.stubborn, None, FACTS, PrintingChannel())

    anyio.run(main)
"""
