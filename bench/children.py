"""The processes that are measured: started, watched, and ended by their own id."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio

from bench import ROOT
from bench.counter import VARIABLE, Counter

START_TIMEOUT: Final = 60.0
_POLL_INTERVAL: Final = 0.005
_Found = TypeVar("_Found")


class ChildFailedError(Exception):
    """A process of a benchmark ended, or did not do in time what it should."""


class Child:
    """A process with its own counter, and with its output in a file."""

    def __init__(self, process: subprocess.Popen[bytes], *, counter: Counter, log: Path) -> None:
        self.pid = process.pid
        self.counter = counter
        self._process = process
        self._log = log

    def cpu(self) -> float:
        """Return the CPU seconds that the process has used, in user and kernel mode."""
        # The id of a process's CPU clock, as clock_getcpuclockid(3) of Linux computes it.
        return time.clock_gettime((~self.pid << 3) | 2)

    def peak_rss(self) -> float:
        """Return the highest resident memory so far, in MB (10^6 bytes)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        if found is None:
            raise ChildFailedError(f"process {self.pid} has ended")
        return int(found[1]) * 1024 / 1e6

    def output(self) -> str:
        """Return all that the process has written to stdout and stderr."""
        return self._log.read_text(errors="replace")

    async def event(self, name: str, *, within: float = START_TIMEOUT) -> dict[str, Any]:
        """Wait for a line of the log with this event, and return it."""

        def find() -> dict[str, Any] | None:
            for line in self.output().splitlines():
                if f'"{name}"' in line:
                    found: dict[str, Any] = json.loads(line)
                    return found
            return None

        return await self.wait_for(find, f"event {name}", within=within)

    async def wait_for_count(self, number: int, *, within: float) -> None:
        """Wait until the counter has reached this number."""
        await self.wait_for(
            lambda: self.counter.value >= number or None, f"count {number}", within=within
        )

    async def wait_for(
        self, find: Callable[[], _Found | None], what: str, *, within: float
    ) -> _Found:
        """Poll until `find` returns something, and return it. Raises ChildFailedError."""
        deadline = time.monotonic() + within
        while True:
            found = find()
            if found is not None:
                return found
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                state = f"ended with {self._process.returncode}" if ended else "is too slow"
                last = "\n".join(self.output().splitlines()[-20:])
                raise ChildFailedError(f"process {self.pid} {state}: no {what} in\n{last}")
            await anyio.sleep(_POLL_INTERVAL)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self, *, within: float = 40.0) -> int:
        """Ask the process to end, wait for that, and return its exit code."""
        self._process.terminate()
        return self._process.wait(within)


@contextmanager
def child(
    arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str]
) -> Iterator[Child]:
    """Run a process, and kill it at the end. `folder` gets its counter and its output."""
    number = len(list(folder.glob("*.log")))
    counter, log = folder / f"{number}.counter", folder / f"{number}.log"
    paths = [
        str(ROOT),
        *filter(None, [environment.get("PYTHONPATH"), os.environ.get("PYTHONPATH")]),
    ]
    variables = (
        os.environ
        | environment
        | {
            VARIABLE: str(counter),
            "PYTHONPATH": os.pathsep.join(paths),
        }
    )
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603
            arguments,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Child(process, counter=Counter(counter), log=log)
    finally:
        process.kill()
        process.wait()
