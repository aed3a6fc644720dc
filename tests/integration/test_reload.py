"""`run --reload`: a worker that restarts when its source files change."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from processes import PROGRAM, Process, environment
from streamer_store import AsyncRequest, RequestStatus
from streamer_store.transitions import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamer_store import Stores

pytestmark = pytest.mark.anyio

HELLO = """
import anyio
from streamer_worker import handler

@handler("greet")
async def greet(payload, ctx):
    return {{"version": {version}}}

@handler("wait")
async def wait(payload, ctx):
    await ctx.progress(0.1, "waiting")
    await anyio.sleep(600)
"""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "hello.py"
    path.write_text(HELLO.format(version=1))
    return path


@pytest.fixture
def worker(real: tuple[Stores, dict[str, str]], source: Path) -> Iterator[Process]:
    """Give a supervisor whose first worker has started."""
    assert source.exists()
    with Process("run", "--handlers", "hello", "--reload", **real[1]) as process:
        process.event("worker_started")
        yield process
        _end(process)


def _end(process: Process) -> None:
    """End the supervisor as Ctrl-C does, so that no worker is left."""
    process.signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.ended()


async def _version(stores: Stores) -> object:
    enqueued = await stores.requests.enqueue(AsyncRequest(action="greet"))
    with anyio.fail_after(30):
        while True:
            request = await stores.requests.get(enqueued.request_id)
            if request.status in TERMINAL:
                assert request.result is not None, request.error
                return request.result["version"]
            await anyio.sleep(0.02)


async def _waiting(stores: Stores) -> str:
    """Enqueue a request whose handler runs for ten minutes, and wait until it runs."""
    enqueued = await stores.requests.enqueue(AsyncRequest(action="wait"))
    with anyio.fail_after(30):
        while True:
            if (await stores.requests.get(enqueued.request_id)).progress > 0:
                return enqueued.request_id
            await anyio.sleep(0.02)


def _worker_pid(process: Process) -> int:
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (pid,) = map(int, listed)
    return pid


async def _gone(pid: int) -> None:
    with anyio.fail_after(30):
        while True:
            if not _runs(pid):
                return
            await anyio.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _write(source: Path, code: str) -> None:
    source.write_text(code)


def _write_in_the_same_second(source: Path, code: str) -> None:
    """Write code of the same length, so that the bytecode of the old code would be used."""
    written = source.stat().st_mtime_ns
    assert source.stat().st_size == len(code)
    source.write_text(code)
    second = 1_000_000_000
    os.utime(source, ns=(written, written // second * second + (written + 1) % second))


async def test_a_changed_file_restarts_the_worker(
    real: tuple[Stores, dict[str, str]], source: Path, worker: Process
) -> None:
    """The new code answers, though its file has the size and the second of the old one."""
    stores, _ = real
    assert await _version(stores) == 1
    _write_in_the_same_second(source, HELLO.format(version=2))
    worker.found("^reload: hello.py has changed, restarting")
    worker.seen('"worker_started"', 2)
    assert await _version(stores) == 2


async def test_a_new_file_counts_and_others_do_not(source: Path, worker: Process) -> None:
    """Files of virtual environments, hidden folders and other suffixes are ignored."""
    for name in ("notes.txt", ".hidden/a.py", "venv/pyvenv.cfg", "venv/lib/b.py"):
        path = source.parent / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("")
    (source.parent / "more.py").write_text("")
    worker.found("more.py has changed, restarting")
    worker.seen('"worker_started"', 2)
    assert sum("has changed" in line for line in worker.lines) == 1


async def test_a_syntax_error_waits_for_the_next_change(
    real: tuple[Stores, dict[str, str]], source: Path, worker: Process
) -> None:
    """The error is one line. The supervisor lives on, and the corrected code answers."""
    _write(source, "def (:\n")
    worker.found("hello cannot be imported: hello.py, line 1: invalid syntax")
    worker.found("ended with exit code 2; it starts again when a file changes")
    _write(source, HELLO.format(version=3))
    worker.seen('"worker_started"', 2)
    assert await _version(real[0]) == 3
    assert not any("Traceback" in line for line in worker.lines)


async def test_a_running_handler_is_interrupted_by_a_change(
    real: tuple[Stores, dict[str, str]], source: Path, worker: Process
) -> None:
    """It has three seconds. Then its request is released, and the new worker runs it."""
    stores, _ = real
    request_id = await _waiting(stores)
    before = (await stores.requests.get(request_id)).worker_id
    _write(source, HELLO.format(version=2))
    worker.seen('"worker_started"', 2)
    with anyio.fail_after(30):
        while True:
            request = await stores.requests.get(request_id)
            if request.worker_id not in {before, None}:
                break
            await anyio.sleep(0.02)
    assert request.retry_count == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_both(
    real: tuple[Stores, dict[str, str]], worker: Process, number: signal.Signals
) -> None:
    """The worker releases its request and exits, and so does the supervisor, with 0."""
    stores, _ = real
    request_id = await _waiting(stores)
    pid = _worker_pid(worker)
    worker.signal(number)
    assert worker.ended() == 0
    await _gone(pid)
    assert (await stores.requests.get(request_id)).status is RequestStatus.PENDING
    assert not any("Traceback" in line for line in worker.lines)


async def test_a_signal_while_no_worker_runs(source: Path, worker: Process) -> None:
    """The supervisor exits with 0."""
    _write(source, "def (:\n")
    worker.found("it starts again when a file changes")
    worker.signal(signal.SIGINT)
    assert worker.ended() == 0


async def test_ctrl_c_in_a_terminal(real: tuple[Stores, dict[str, str]], source: Path) -> None:
    """It reaches both. The worker cancels its handlers at once."""
    stores, settings = real
    with subprocess.Popen(  # noqa: S603, ASYNC220
        [PROGRAM, "run", "--handlers", "hello", "--reload"],
        cwd=source.parent,
        env=environment(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            await _waiting(stores)
            os.killpg(process.pid, signal.SIGINT)
            output = await anyio.to_thread.run_sync(process.communicate)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0
    assert "Traceback" not in output[0]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills the children of a process")
async def test_a_killed_supervisor_leaves_no_worker(
    real: tuple[Stores, dict[str, str]], worker: Process
) -> None:
    """The kernel kills the worker."""
    await _waiting(real[0])
    pid = _worker_pid(worker)
    worker.signal(signal.SIGKILL)
    assert worker.ended() == -signal.SIGKILL
    await _gone(pid)
