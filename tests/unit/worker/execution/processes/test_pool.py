"""Functions in processes: what is passed between worker and process, and how calls end."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from streamer_store import ClaimLost, ItemTooLarge, RequestNotPending, RequestStatus
from streamer_store import ValidationError as StoreValidationError
from streamer_worker import Reject, RetryLater
from streamer_worker.events import ChildEnded, ChildStarted, Events
from streamer_worker.execution.processes.pool import Processes
from streamer_worker.execution.processes.protocol import ResultInvalid, WorkerCrashed
from streamer_worker.handlers.context import AttemptInfo
from streamer_worker.handlers.registry import not_importable
from streamer_worker.handlers.worker_channel import ProgressUpdate
from support import START
from unit.worker.execution.processes import functions
from unit.worker.harness import PATIENCE, Recorder

pytestmark = pytest.mark.anyio

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
        self.refuse: Exception | None = None
        self._changed = anyio.Event()

    async def progress(self, update: ProgressUpdate) -> None:
        self.reported.append((update.fraction, update.message, update.reset))
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def checkpoint(self, value: Any) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.saved.append(value)

    def report(self, *_: Any, **__: Any) -> bool:
        raise AssertionError("a process reports by `progress` only")

    def notify(self) -> None:
        raise AssertionError("a process wakes nobody")

    async def until_reported(self, times: int = 1) -> None:
        with anyio.fail_after(PATIENCE):
            while len(self.reported) < times:
                await self._changed.wait()

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


async def test_payload_context_and_result_are_passed(warm: Bench) -> None:
    """In both directions, complete."""
    assert await warm.run(functions.double, {"n": [1, None]}) == [
        {"n": [1, None]},
        "r1",
        2,
        {"trace": 1},
        [5],
    ]


async def test_a_decorated_function_is_found(warm: Bench) -> None:
    """The name in the module is that of a Handler."""
    assert await warm.run(functions.decorated.function, {"n": 1}) == {"n": 1}


async def test_a_process_is_used_again(bench: Bench) -> None:
    """It is not the worker's own process."""
    first = await bench.run(functions.pid)
    assert first == await bench.run(functions.pid)
    assert first != os.getpid()
    assert len(bench.recorder.of(ChildStarted)) == 1


@pytest.mark.parametrize(
    ("which", "kind", "text"),
    [
        ("value", ValueError, "no rows"),
        ("exit", SystemExit, "3"),
        ("odd", RuntimeError, "Odd: a b"),
        ("local", RuntimeError, "Local: gone"),
    ],
)
async def test_an_exception_is_passed_with_its_traceback(
    warm: Bench, which: str, kind: type[BaseException], text: str
) -> None:
    """One that cannot be pickled is passed as text, and the process continues."""
    before = await warm.run(functions.pid)
    with pytest.raises(kind, match=text) as caught:
        await warm.run(functions.raises, which)
    shown = "".join(traceback.format_exception(caught.value))
    assert "in raises" in shown
    assert await warm.run(functions.pid) == before


async def test_reject_and_retry_later_are_passed_as_they_are(warm: Bench) -> None:
    """With code, delay and all other attributes."""
    with pytest.raises(Reject) as rejected:
        await warm.run(functions.raises, "reject")
    assert (str(rejected.value), rejected.value.code) == ("no account", "NO_ACCOUNT")
    with pytest.raises(RetryLater) as later:
        await warm.run(functions.raises, "later")
    assert (later.value.after.total_seconds(), later.value.counts) == (7, True)


@pytest.mark.parametrize(
    "error",
    [
        StoreValidationError("details", "wrong"),
        ItemTooLarge("item", "too large", size=5, table="t", key="k"),
        ClaimLost("gone", status="FAILED", operation="complete"),
        RequestNotPending("no", status=RequestStatus.FAILED),
    ],
)
def test_store_errors_keep_their_fields(error: Exception) -> None:
    """After pickling and unpickling."""
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize(
    ("how", "text"), [("kill", r"signal 9 \(SIGKILL\)"), ("exit", "exit code 7")]
)
async def test_a_process_that_dies_fails_only_its_call(bench: Bench, how: str, text: str) -> None:
    """Another process continues, and the next call has a new process."""
    other = RecordingChannel()
    async with anyio.create_task_group() as tasks:
        done: list[Any] = []

        async def run_other() -> None:
            done.append(await bench.run(functions.until_draining, None, other))

        tasks.start_soon(run_other)
        await other.until_reported()
        with pytest.raises(WorkerCrashed, match=text):
            await bench.run(functions.dies, how)
        assert await bench.run(functions.double, 1) == [1, "r1", 2, {"trace": 1}, [5]]
        other.draining = True
    assert done == ["drained"]
    (ended,) = bench.recorder.of(ChildEnded)
    assert "of the handler" in ended.reason


async def cancelled(
    bench: Bench, function: Callable[..., Any], payload: Any, *, stopped: bool = False
) -> int:
    """Cancel a call once it has reported its process id, which is returned."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run, function, payload)
        pid = await bench.channel.pid()
        if stopped:
            os.kill(pid, signal.SIGSTOP)
        tasks.cancel_scope.cancel()
    return pid


@pytest.mark.parametrize("stopped", [False, True])
async def test_cancelling_ends_the_process(bench: Bench, *, stopped: bool) -> None:
    """Even one that ignores cancellation, or is stopped."""
    began = anyio.current_time()
    await gone(await cancelled(bench, functions.stubborn, None, stopped=stopped))
    assert anyio.current_time() - began < GRACE + 5
    assert (await bench.run(functions.double, 1))[0] == 1


async def test_a_handler_may_clean_up_when_it_is_cancelled(bench: Bench, tmp_path: Path) -> None:
    """It sees `cancelled`, and its next progress raises HandlerCancelled."""
    await cancelled(bench, functions.cooperative, str(tmp_path / "told"))
    assert (tmp_path / "told").read_text() == "cleaned up"


async def test_subprocesses_of_a_handler_end_with_it(bench: Bench, tmp_path: Path) -> None:
    """They are killed with the process."""
    await cancelled(bench, functions.grandchild, str(tmp_path / "pid"))
    await gone(int((tmp_path / "pid").read_text()))


async def test_a_child_ignores_signals_to_the_group(warm: Bench) -> None:
    """Its worker decides when it ends. Processes that the handler starts do not ignore them."""
    assert await warm.run(functions.signalled) == -signal.SIGTERM


async def test_a_handler_sees_soon_that_the_worker_drains(warm: Bench) -> None:
    """`ctx.draining` becomes true."""
    warm.channel.draining = True
    assert await warm.run(functions.until_draining) == "drained"


async def test_progress_is_sent_rarely_and_the_last_always(warm: Bench) -> None:
    """A hundred thousand reports are a few messages."""
    await warm.run(functions.steps, 100_000)
    assert warm.channel.reported[-1] == (1.0, "step 99999", False)
    assert len(warm.channel.reported) < 60


async def test_a_reset_is_not_lost_among_others(warm: Bench) -> None:
    """The worker must accept the smaller fraction."""
    await warm.run(functions.resets)
    assert warm.channel.reported[-1][0] == 0.2
    assert any(reset for *_, reset in warm.channel.reported)


async def test_progress_before_a_long_silence_is_sent_soon(warm: Bench, tmp_path: Path) -> None:
    """It does not wait for the next report."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(warm.run, functions.reports_then_waits, str(tmp_path / "go"))
        with anyio.fail_after(PATIENCE):
            while (0.2, "newest", False) not in warm.channel.reported:
                await warm.channel.until_reported(len(warm.channel.reported) + 1)
        (tmp_path / "go").touch()


async def test_invalid_progress_is_raised_at_the_call(warm: Bench) -> None:
    """In the process."""
    assert await warm.run(functions.wrong_progress) == "details.x"


async def test_threads_of_a_handler_may_report(warm: Bench) -> None:
    """The largest fraction is kept."""
    await warm.run(functions.in_threads)
    assert warm.channel.reported[-1][0] == 0.9


async def test_a_checkpoint_is_answered(warm: Bench) -> None:
    """It is written after the progress before it, and an error is raised in the process."""
    assert await warm.run(functions.saves, {"row": 5}) == "saved"
    assert warm.channel.saved == [{"row": 5}]
    assert warm.channel.reported[-1] == (0.5, "half", False)
    warm.channel.refuse = ItemTooLarge("item", "too large")
    assert await warm.run(functions.saves, {"row": 6}) == "item refused"


async def test_printed_text_does_not_disturb_the_messages(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    """It appears where the worker's output appears."""
    assert await bench.run(functions.prints) == "printed"
    printed = capfd.readouterr()
    assert "to stdout" in printed.out
    assert "to stderr" in printed.err


async def test_large_values_are_passed(warm: Bench) -> None:
    """Megabytes, in both directions."""
    assert len(await warm.run(functions.large, 5_000_000)) == 5_000_000
    assert (await warm.run(functions.double, "y" * 5_000_000))[0] == "y" * 5_000_000


async def test_a_payload_or_result_that_cannot_be_pickled_is_an_error(warm: Bench) -> None:
    """The process continues."""
    before = await warm.run(functions.pid)
    with pytest.raises(ResultInvalid, match="result cannot be pickled"):
        await warm.run(functions.not_picklable)
    with pytest.raises(TypeError, match="payload cannot be pickled"):
        await warm.run(functions.double, lambda: None)
    assert await warm.run(functions.pid) == before


async def test_the_limit_holds(bench: Bench) -> None:
    """The third of three calls waits for one of two processes."""
    channels = [RecordingChannel() for _ in range(3)]
    async with anyio.create_task_group() as tasks:
        for channel in channels[:2]:
            tasks.start_soon(bench.run, functions.until_draining, None, channel)
            await channel.until_reported()
        tasks.start_soon(bench.run, functions.until_draining, None, channels[2])
        await anyio.wait_all_tasks_blocked()
        channels[0].draining = True
        await channels[2].until_reported()
        assert len(bench.recorder.of(ChildStarted)) == 2
        channels[1].draining = channels[2].draining = True


async def test_calls_that_come_at_once_have_a_process_each(bench: Bench) -> None:
    """No call gets a process that another has just started and not yet used."""
    channels = [RecordingChannel() for _ in range(2)]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run, functions.until_draining, None, channels[0])
        await bench.recorder.wait_for(ChildStarted)
        tasks.start_soon(bench.run, functions.until_draining, None, channels[1])
        for channel in channels:
            await channel.until_reported()
        for channel in channels:
            channel.draining = True
    assert len(bench.recorder.of(ChildStarted)) == 2


async def test_a_process_that_died_idle_is_not_used(bench: Bench) -> None:
    """No call fails because of it."""
    pid = await bench.run(functions.pid)
    os.kill(pid, signal.SIGKILL)
    await gone(pid)
    assert await bench.run(functions.pid) != pid


async def test_a_start_that_is_cancelled_leaves_nothing(bench: Bench) -> None:
    """The next calls have their processes."""
    for _ in range(3):
        with anyio.move_on_after(0.05):
            await bench.run(functions.stubborn)
    with anyio.fail_after(PATIENCE):
        assert await bench.run(functions.double, 1)
    for started in bench.recorder.of(ChildStarted)[:-1]:
        await gone(started.pid)


async def test_no_process_is_left_at_the_end() -> None:
    """Neither an idle nor a busy one."""
    recorder = Recorder()
    async with Processes(limit=1, log=None, events=Events(recorder), grace=GRACE) as pool:
        await pool.run(functions.pid, None, FACTS, RecordingChannel())
    (started,) = recorder.of(ChildStarted)
    await gone(started.pid)


PARENT = """
    import anyio, sys
    from streamer_worker.events import Events
    from streamer_worker.execution.processes.pool import Processes
    from unit.worker.execution.processes import functions
    from unit.worker.execution.processes.test_pool import FACTS, RecordingChannel

    class PrintingChannel(RecordingChannel):
        async def progress(self, update):
            print(update.message, flush=True)

    async def main():
        async with Processes(limit=1, log=None, events=Events(), grace=1) as pool:
            await pool.run(functions.stubborn, None, FACTS, PrintingChannel())

    anyio.run(main)
"""


async def test_a_killed_parent_leaves_no_process_behind() -> None:
    """Although the child is busy."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    with subprocess.Popen(  # noqa: ASYNC220, S603
        [sys.executable, "-c", textwrap.dedent(PARENT)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
    ) as parent:
        assert parent.stdout is not None
        pid = int(await anyio.to_thread.run_sync(parent.stdout.readline))
        parent.send_signal(signal.SIGKILL)
    await gone(pid)


def test_a_function_that_a_process_cannot_import_is_a_fault() -> None:
    """It is reported when the handler is loaded."""
    assert not_importable(functions.double) is None
    assert not_importable(functions.decorated.function) is None
    assert "top level" in str(not_importable(lambda: None))
    assert "top level" in str(not_importable(Bench.run))
    assert "no module or no name" in str(not_importable(5))  # type: ignore[arg-type]
