"""The workers of the demo: processes of `streamer-worker run`."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from subprocess import DEVNULL, PIPE
from typing import Any, Final

import anyio
from anyio.abc import Process, TaskStatus

from streamer_store.errors import ungrouped
from streamer_worker.errors import StartError

_PROGRAM: Final = (
    "import sys; from streamer_worker.concurrency.parent_death import die_with;"
    " die_with(int(sys.argv.pop(1))); from streamer_worker.cli import main; main()"
)
_STOPS_WITHIN: Final = 5.0
_KEPT_BYTES: Final = 2_000
_MAX_LINE: Final = 1_000_000


class DemoWorker:
    """A worker process that has started. `name` is what the demo calls it."""

    def __init__(self, name: str, process: Process, started: Mapping[str, Any]) -> None:
        self.name = name
        self.worker_id: str = started["worker_id"]
        self.metrics_url: str = started["metrics_url"]
        self.killed = False
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def kill(self) -> None:
        """Send SIGKILL, which the worker cannot handle, and wait until the process is gone."""
        self.killed = True
        self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def demo_workers(
    names: Sequence[str], *, settings: Mapping[str, str], references: Iterable[str]
) -> AsyncIterator[list[DemoWorker]]:
    """Start workers with these settings and handlers, and stop them at the end.

    Raises StartError with the worker's own words if one does not start. The kernel kills them if
    this process is killed.
    """
    arguments = [each for reference in references for each in ("--handlers", reference)]
    environment = os.environ | settings | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    processes: list[Process] = []
    try:
        for _ in names:
            process = await anyio.open_process(
                [sys.executable, "-P", "-c", _PROGRAM, str(os.getpid()), "run", *arguments],
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=PIPE,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops the workers
            )
            processes.append(process)
        with ungrouped(StartError):
            async with anyio.create_task_group() as tasks:
                yield [
                    DemoWorker(name, process, await tasks.start(_read_log, process))
                    for name, process in zip(names, processes, strict=True)
                ]
                tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            for process in processes:
                await _stop(process)


async def _stop(process: Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
        with anyio.move_on_after(_STOPS_WITHIN):
            await process.wait()
    if process.returncode is None:
        process.kill()
    await process.aclose()


async def _read_log(process: Process, *, task_status: TaskStatus[Mapping[str, Any]]) -> None:
    """Read the log until its end, so that the worker never waits for us. Reports its start."""
    assert process.stderr is not None  # noqa: S101
    log = b""
    has_started = False
    async for chunk in process.stderr:
        if has_started:
            continue
        log = (log + chunk)[-_MAX_LINE:]
        for line in log.splitlines():
            if (event := _event(line)).get("event") == "worker_started":
                task_status.started(event)
                has_started = True
    if not has_started:
        text = log[-_KEPT_BYTES:].decode(errors="replace")
        raise StartError("a worker of the demo did not start:", text.splitlines())


def _event(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
