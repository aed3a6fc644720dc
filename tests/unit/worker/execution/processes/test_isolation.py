"""Isolation of calls in a process: from each other, from forked children, and from directories."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog

from streamer_worker import Reject, RetryLater
from streamer_worker.execution.processes.pool import import_path
from streamer_worker.execution.processes.protocol import ResultInvalid, WorkerCrashed
from streamer_worker.handlers.context import CheckpointInvalid
from unit.worker.execution.processes import changing, functions
from unit.worker.execution.processes.pool_bench import PARENT, Bench, bench, gone

__all__ = ["bench"]

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Run in real time; that both backends can run processes shows test_pool."""
    return "asyncio"


@pytest.mark.parametrize(("how", "code"), [("return", 0), ("exit", 7), ("text", 1), ("raise", 1)])
async def test_a_forked_child_that_leaves_its_handler_sends_no_result(
    bench: Bench, how: str, code: int
) -> None:
    """The child ends. This call and the next ones have their own results."""
    assert await bench.run(changing.forks, how) == code
    assert await bench.run(functions.double, "a") == ["a", "r1", 2, {"trace": 1}, [5]]
    assert await bench.run(functions.double, "b") == ["b", "r1", 2, {"trace": 1}, [5]]


@pytest.mark.parametrize("how", ["progress", "checkpoint"])
async def test_a_forked_child_cannot_use_the_context(bench: Bench, how: str) -> None:
    """Progress and checkpoints raise RuntimeError in it."""
    assert await bench.run(changing.forks_and_uses, how) == 9
    assert (bench.channel.reported, bench.channel.saved) == ([], [])


async def test_a_thread_that_was_left_behind_writes_nothing_for_the_next_call(
    bench: Bench, tmp_path: Path
) -> None:
    """It sees `cancelled`, and its writes raise HandlerCancelled."""
    file = tmp_path / "go"
    await bench.run(changing.leaves_a_thread, str(file))
    assert await bench.run(changing.waits_for, str(file)) == "own"
    assert file.with_suffix(".seen").read_text() == "True cancelled cancelled"
    assert (bench.channel.reported, bench.channel.saved) == ([], [{"own": 1}])


async def test_messages_of_another_call_are_dropped(bench: Bench) -> None:
    """Both its checkpoint and its result."""
    assert await bench.run(changing.forges) == "own"
    assert bench.channel.saved == []


async def test_each_call_has_its_own_context_variables(bench: Bench) -> None:
    """Decimal's context and log fields are included."""
    for value in "ab":
        assert await bench.run(changing.context, value) == ["none", 28, None]


async def test_log_fields_that_middleware_has_bound_reach_a_process(bench: Bench) -> None:
    """Values that cannot be pickled arrive as a log line shows them."""
    with structlog.contextvars.bound_contextvars(user="ada", tags=["x"], call=lambda: None):
        fields = await bench.run(changing.bound)
    assert (fields["user"], fields["tags"]) == ("ada", ["x"])
    assert "lambda" in fields["call"]
    assert await bench.run(changing.bound) == {}


async def test_the_state_of_the_process_is_restored(bench: Bench, tmp_path: Path) -> None:
    """Every value that the handler changed is the same in the next call."""
    before = await bench.run(changing.state)
    changed: dict[str, Any] = await bench.run(changing.changes_all, str(tmp_path))
    assert [name for name, value in changed.items() if value == before[name]] == []
    assert await bench.run(changing.state) == before


async def test_a_warning_is_shown_once_in_a_process(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    """As in any program, and not once after each call."""
    for _ in range(3):
        await bench.run(changing.warns)
    assert capfd.readouterr().err.count("UserWarning: watch out") == 1


async def test_no_seed_is_left(bench: Bench) -> None:
    """A seed that a handler sets does not make random numbers of the next one predictable."""
    numbers = [await bench.run(changing.seeded) for _ in range(3)]
    assert len(set(numbers)) == 3


async def test_a_forked_child_can_be_terminated(bench: Bench) -> None:
    """The process itself ignores SIGTERM. Its child does not, even before it has begun."""
    for _ in range(5):
        assert await bench.run(changing.terminates) == -signal.SIGTERM


async def test_a_busy_pool_can_be_left(bench: Bench) -> None:
    """Its processes are terminated."""
    assert await bench.run(changing.leaves_a_pool) == [-signal.SIGTERM]


async def test_no_module_of_the_current_directory_is_run(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler may have changed to a user's directory."""
    for name in ("queue", "json", "sitecustomize", "streamer_worker"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('another module was run')")
    monkeypatch.chdir(tmp_path)
    assert await bench.run(changing.directory) == str(tmp_path)


async def test_an_extended_import_path_reaches_a_process(
    tmp_path: Path,
) -> None:
    """Zip applications extend it. The interpreter alone would find none of our packages."""
    path = [entry for entry in sys.path if entry]
    (tmp_path / "extended.py").write_text("def one(payload, ctx):\n    return 'found'\n")
    program = f"""
        import sys
        sys.path[:] = {[*path, str(tmp_path)]!r}
        import anyio, extended
        from streamer_worker.events import Events
        from streamer_worker.execution.processes.pool import Processes
        from unit.worker.execution.processes.pool_bench import FACTS, RecordingChannel

        async def main():
            async with Processes(limit=1, log=None, events=Events(), grace=1) as pool:
                print(await pool.run(extended.one, None, FACTS, RecordingChannel()))

        anyio.run(main)
    """
    base: str = sys._base_executable  # type: ignore[attr-defined]
    done = await anyio.run_process(
        [base, "-I", "-c", textwrap.dedent(program)], stderr=subprocess.STDOUT, check=False
    )
    assert done.stdout.decode().strip() == "found"


def test_relative_entries_of_the_path_are_resolved_at_the_start() -> None:
    """The directory of the start itself is last."""
    assert import_path(["", "/a", "b", None], Path("/start")) == ["/a", "/start/b", "/start"]
    assert import_path(["/a"], Path("/start")) == ["/a"]
    assert import_path(["", "/a", "b"], None) == ["/a"]


async def test_a_killed_parent_leaves_no_subprocess_of_a_handler(tmp_path: Path) -> None:
    """The process notices that its worker is gone, and ends its process group."""
    file = tmp_path / "pid"
    program = PARENT.replace("functions.stubborn, None", f"functions.grandchild, {str(file)!r}")
    path = os.pathsep.join(entry for entry in sys.path if entry)
    async with await anyio.open_process(
        [sys.executable, "-c", textwrap.dedent(program)],
        stderr=None,
        env=os.environ | {"PYTHONPATH": path},
    ) as parent:
        assert parent.stdout is not None
        pid = int(await parent.stdout.receive())
        parent.send_signal(signal.SIGKILL)
    await gone(pid)
    await gone(int(file.read_text()))


async def test_a_process_that_dies_leaves_no_subprocess_of_its_handler(
    bench: Bench, tmp_path: Path
) -> None:
    """Its process group is ended, although the process itself is gone."""
    file = tmp_path / "pid"
    with pytest.raises(WorkerCrashed):
        await bench.run(functions.grandchild_then_dies, str(file))
    await gone(int(file.read_text()))


@pytest.mark.parametrize("how", ["streams", "descriptors", "both"])
async def test_streams_that_a_handler_closes_are_open_for_the_next_call(
    bench: Bench, how: str
) -> None:
    """Otherwise each later call that prints would fail."""
    for _ in range(3):
        assert await bench.run(changing.closes_its_streams, how) == how


async def test_the_time_zone_of_a_call_ends_with_it(bench: Bench) -> None:
    """The C library is notified, too, which does not read the variable by itself."""
    before = await bench.run(changing.in_another_zone, "XYZ-5")
    assert await bench.run(changing.in_another_zone, "XYZ-5") == before != "XYZ"


async def test_an_exception_of_an_unknown_class_arrives_as_text(bench: Bench) -> None:
    """It has its traceback."""
    with pytest.raises(RuntimeError) as raised:
        await bench.run(changing.raises_its_own, "nowhere_else")
    assert str(raised.value) == "Broken: no rows"
    assert "raises_its_own" in "".join(raised.value.__notes__)


async def test_a_result_of_an_unknown_class_is_invalid(bench: Bench) -> None:
    """It could never be stored, so there is no retry."""
    with pytest.raises(ResultInvalid, match="nowhere_else"):
        await bench.run(changing.returns_its_own, "nowhere_else")


async def test_a_checkpoint_of_an_unknown_class_is_invalid(bench: Bench) -> None:
    """The error is raised where the handler saves it."""
    with pytest.raises(CheckpointInvalid, match="nowhere_else"):
        await bench.run(changing.saves_its_own, "nowhere_else")


async def test_a_reject_that_cannot_be_pickled_keeps_its_meaning(
    bench: Bench,
) -> None:
    """Its class is local, or it has an attribute that cannot be pickled."""
    with pytest.raises(Reject) as rejected:
        await bench.run(changing.rejects_in_its_way, "reject")
    assert (str(rejected.value), rejected.value.code) == ("no account", "NO_ACCOUNT")
    with pytest.raises(RetryLater) as later:
        await bench.run(changing.rejects_in_its_way, "later")
    assert (later.value.reason, later.value.after) == ("busy", timedelta(seconds=7))
    assert not later.value.counts
