"""Every worker process ends, and its exit code says why."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from integration.exits import CODE, ENTRIES
from integration.fast import FAST, ended, scaled
from plugins import plugin
from processes import COMMAND, PROGRAM, Process
from streamer_store import AsyncRequest, RequestStatus

if TYPE_CHECKING:
    from pathlib import Path

    from streamer_store import Stores

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(plugin(tmp_path_factory.mktemp("plugins"), "ends", CODE, *ENTRIES))


@contextmanager
def started(real: tuple[Stores, dict[str, str]], path: str, **more: str) -> Iterator[Process]:
    with Process("run", PYTHONPATH=path, **(FAST | real[1] | more)) as worker:
        worker.event("worker_started")
        yield worker


async def put(stores: Stores, action: str, **payload: object) -> str:
    request = AsyncRequest(action=action, payload=payload, max_retries=0)
    return (await stores.requests.enqueue(request)).request_id


async def done(stores: Stores, action: str = "do", **payload: object) -> None:
    (request,) = await ended(stores, await put(stores, action, **payload))
    assert request.status is RequestStatus.COMPLETED, request.error


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("interrupt", "KeyboardInterrupt"),
        ("interrupt_soon", "KeyboardInterrupt"),
        ("exit", "SystemExit"),
        ("stop", "RuntimeError"),
        ("cancel_all", "CancelledError"),
        ("alarm", "TimeoutError"),
    ],
)
async def test_a_handler_that_ends_the_event_loop(
    real: tuple[Stores, dict[str, str]], path: str, how: str, reason: str
) -> None:
    """An event has the reason, and with this exit code every supervisor starts it again."""
    with started(real, path) as worker:
        await put(real[0], "do", how=how, wait=True)
        assert reason in worker.event("process_ending")["reason"]
        assert worker.ended() == 70


async def test_a_handler_that_exits_at_once(real: tuple[Stores, dict[str, str]], path: str) -> None:
    """The exit code is the handler's. The systemd unit restarts the worker after it, too."""
    with started(real, path) as worker:
        await put(real[0], "do", how="exit_at_once")
        assert worker.ended() == 0
    assert not any("worker_stopped" in line for line in worker.lines)


async def test_a_handler_that_swallows_cancellations_does_not_keep_a_broken_loop(
    real: tuple[Stores, dict[str, str]], path: str
) -> None:
    """A loop that broke waits for its tasks no longer than a stop may take."""
    with started(real, path, STREAMER_HANDLER_CANCEL_GRACE="100ms") as worker:
        await put(real[0], "swallow")
        await _wait_until_claimed(real[0])
        await put(real[0], "do", how="interrupt", wait=True)
        worker.event("process_ending")
        assert worker.ended() == 70


@pytest.mark.parametrize("how", ["aiohttp", "aiohttp_left", "ignore", "default"])
async def test_replaced_signal_handlers_are_restored(
    real: tuple[Stores, dict[str, str]], path: str, how: str
) -> None:
    """They are restored within a second, with an event, and SIGTERM drains the worker."""
    with started(real, path) as worker:
        await done(real[0], how=how)
        worker.event("signal_handlers_restored", signals=["SIGTERM"])
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
        worker.event("worker_stopped")


async def test_sighup_means_sigterm(real: tuple[Stores, dict[str, str]], path: str) -> None:
    """SIGHUP, from a closed terminal or a supervisor, drains the worker."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    try:
        worker = Process("run", executable=PROGRAM, PYTHONPATH=path, **(FAST | real[1]))
    finally:
        signal.signal(signal.SIGHUP, before)
    with worker:
        worker.event("worker_started")
        worker.signal(signal.SIGHUP)
        assert worker.ended() == 0
        worker.event("worker_stopped")


async def test_a_blocked_sigterm_is_unblocked(
    real: tuple[Stores, dict[str, str]], path: str
) -> None:
    """A worker that a supervisor starts with SIGTERM blocked drains on SIGTERM."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        worker = Process("run", executable=PROGRAM, PYTHONPATH=path, **(FAST | real[1]))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with worker:
        worker.event("worker_started")
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0


async def test_an_ignored_sighup_stays_ignored(
    real: tuple[Stores, dict[str, str]], path: str
) -> None:
    """A worker under nohup(1) does not react to SIGHUP."""
    script = 'trap "" HUP; exec "$0" run'
    env = FAST | real[1] | {"PYTHONPATH": path}
    with Process("-c", script, *COMMAND, executable="/bin/bash", **env) as worker:
        worker.event("worker_started")
        worker.signal(signal.SIGHUP)
        await done(real[0], how="print")
        worker.signal(signal.SIGTERM)
        worker.event("worker_draining", in_flight=0)
        assert worker.ended() == 0


@pytest.mark.parametrize(
    "how",
    [
        *("stdout_none", "stdout_closed", "stderr_closed", "stderr_none"),
        *("descriptors_closed", "all_descriptors"),
    ],
)
async def test_a_handler_that_closes_streams(
    real: tuple[Stores, dict[str, str]], path: str, how: str
) -> None:
    """The worker continues, logs, and drains with exit code 0."""
    with started(real, path) as worker:
        await done(real[0], how=how)
        after = await put(real[0], "leave_thread")
        worker.event("request_finished", request_id=after)
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
        worker.event("worker_stopped")


@pytest.mark.parametrize(
    "streams", [">&-", ">/dev/full", "> >(exit 0)", "2>&-", "2>/dev/full", "2> >(exit 0)"]
)
async def test_broken_streams(real: tuple[Stores, dict[str, str]], path: str, streams: str) -> None:
    """Output to them is lost. A drain exits with 0, and not with Python's 120."""
    with redirected(streams, FAST | real[1] | {"PYTHONPATH": path}) as worker:
        # Whether print() raises is between the handler and its stdout.
        await ended(real[0], await put(real[0], "do", how="print"))
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0


async def test_a_start_that_fails_with_broken_streams(
    real: tuple[Stores, dict[str, str]], tmp_path: Path
) -> None:
    """The exit code is 2, even if a plugin printed to a broken stream."""
    bad = plugin(tmp_path, "bad", 'print("hello"); raise ValueError', "x = bad:x")
    env = real[1] | {"PYTHONPATH": str(bad)}
    for streams in (">/dev/full", ">/dev/full 2>&1", ">&- 2>&-"):
        with redirected(streams, env) as worker:
            assert worker.ended() == 2


@pytest.mark.parametrize("leaves", ["nothing", "leave_thread", "swallow"])
async def test_exit_hooks_run(
    real: tuple[Stores, dict[str, str]], path: str, tmp_path: Path, leaves: str
) -> None:
    """atexit hooks run, even if handlers left threads or tasks behind."""
    file = tmp_path / "hook"
    more = {"HOOK_FILE": str(file), "HOOK_SECONDS": "2"}
    more |= {"STREAMER_DRAIN_TIMEOUT": "100ms", "STREAMER_HANDLER_CANCEL_GRACE": "100ms"}
    with started(real, path, **more) as worker:
        if leaves != "nothing":
            await put(real[0], leaves)
            await _wait_until_claimed(real[0])
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
    assert file.read_text() == "done"


async def test_exit_hooks_that_hang_are_cut_off(
    real: tuple[Stores, dict[str, str]], path: str, tmp_path: Path
) -> None:
    """The process ends after `exit_timeout` with the same exit code."""
    file = tmp_path / "hook"
    more = {"HOOK_FILE": str(file), "HOOK_SECONDS": "600", "STREAMER_EXIT_TIMEOUT": "500ms"}
    with started(real, path, **more) as worker:
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
    assert not file.exists()


async def test_a_handler_that_holds_the_interpreter(
    real: tuple[Stores, dict[str, str]], path: str
) -> None:
    """If a C extension holds the GIL, a thread of C prints all stacks and ends the process."""
    with started(real, path, STREAMER_PRESENCE_STUCK_AFTER=scaled(1)) as worker:
        await put(real[0], "hold")
        worker.found(r"Timeout \(0:00:0\d")
        worker.found(r"in hold")
        assert worker.ended() == 1


@pytest.mark.parametrize(("action", "code"), [("block", 70), ("leave_thread", 0)])
async def test_a_full_log_pipe_blocks_nothing(
    real: tuple[Stores, dict[str, str]], path: str, action: str, code: int
) -> None:
    """Neither the work nor the watchdog nor a drain waits for a pipe that is full."""
    env = FAST | real[1] | {"PYTHONPATH": path, "SMALL_PIPE": "1", "STREAMER_LOG_LEVEL": "debug"}
    env |= {"STREAMER_PRESENCE_STUCK_AFTER": scaled(3)}
    with redirected("2> >(exec tail --pid=$$ -f /dev/null)", env) as worker:
        for _ in range(20):
            await done(real[0], how="print")
        await put(real[0], action)
        if code == 0:
            await _wait_until_claimed(real[0])
            worker.signal(signal.SIGTERM)
        assert worker.ended() == code


def redirected(streams: str, env: dict[str, str]) -> Process:
    """Start a worker with other standard streams than the test has."""
    return Process("-c", f'exec "$0" run {streams}', *COMMAND, executable="/bin/bash", **env)


async def _wait_until_claimed(stores: Stores) -> None:
    """Wait until no request is PENDING."""
    with anyio.fail_after(60):
        while True:
            if not (await stores.requests.depth(RequestStatus.PENDING, limit=1)).count:
                return
            await anyio.sleep(0.05)
