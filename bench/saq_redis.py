"""Starts redis, fills a queue of saq and runs a worker of saq, where these are installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from bench import ROOT
from bench.children import Child, ChildFailedError, child
from dynamodb_local import free_port

_START_TIMEOUT: Final = 10.0
_FILL_TIMEOUT: Final = 300.0


def saq_python() -> str | None:
    """Return the path of a Python that has saq: BENCH_SAQ_PYTHON, or that of `make bench`."""
    named = os.environ.get("BENCH_SAQ_PYTHON")
    found = Path(named) if named else Path(sys.prefix) / ".saq" / "bin" / "python"
    return str(found) if found.exists() else None


def missing() -> str | None:
    """Return what is missing for saq, or None."""
    if shutil.which("redis-server") is None:
        return "redis-server is not installed (Debian's package redis-server)"
    python = saq_python()
    imported = python and subprocess.run([python, "-c", "import saq"], check=False)  # noqa: S603
    if not imported or imported.returncode:
        return "saq is not installed: `make bench` does so, or set BENCH_SAQ_PYTHON"
    return None


@asynccontextmanager
async def saq_worker(folder: Path, total: int) -> AsyncIterator[Child]:
    """Run a worker of saq on a redis of its own, whose queue holds `total` jobs."""
    python = saq_python() or ""
    with _redis() as url:
        _call(python, "fill", url, str(total))
        arguments = [python, "-m", "bench.saq_queue", "work", url]
        with child(arguments, folder=folder, environment={}) as worker:
            yield worker
            await _require_finished(worker, python, url)


async def _require_finished(worker: Child, python: str, url: str) -> None:
    """Wait until no job is incomplete, so that each result is stored."""

    def is_finished() -> bool | None:
        return int(_call(python, "count", url)) == 0 or None

    await worker.wait_for(is_finished, "end of all jobs", within=30)


def _call(python: str, *arguments: str) -> str:
    ended = subprocess.run(  # noqa: S603
        [python, "-m", "bench.saq_queue", *arguments],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=_FILL_TIMEOUT,
    )
    return ended.stdout


@contextmanager
def _redis() -> Iterator[str]:
    """Run a redis in memory on a free port, and give its URL."""
    port = free_port()
    program = shutil.which("redis-server") or ""
    process = subprocess.Popen(  # noqa: S603
        [
            *(program, "--port", str(port), "--bind", "127.0.0.1"),
            *("--save", "", "--appendonly", "no"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(port)
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise ChildFailedError("redis-server did not start") from None
            time.sleep(0.05)  # nothing announces that a port is open
        else:
            return
