"""Forked processes of `streamer-worker` behave as started ones, so that tests may fork them."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING

import pytest

from fork_server import can_fork
from plugins import plugin
from processes import PROGRAM, Process, command, environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    not can_fork(os.environ), reason="this run starts every process (see fork_server.py)"
)
WAITS = """
    import time
    print("imported", flush=True)
    time.sleep(60)
"""
PRINTS = """
    import os
    from pathlib import Path

    def is_open(number):
        try:
            return bool(os.fstat(number))
        except OSError:
            return False

    Path(os.environ["OPEN_FILE"]).write_text(str([n for n in range(100) if is_open(n)]))
    raise ValueError
"""


@pytest.mark.parametrize(
    "arguments",
    ["--version", "works", "config", "handlers", "run", "show r1", "enqueue echo --payload -"],
)
def test_a_forked_command_ends_as_a_started_one(arguments: str, moto_url: str) -> None:
    """The exit code, stdout and stderr are the same."""
    settings = {
        "STREAMER_ENDPOINT_URL": moto_url,
        "STREAMER_BATCH_WRITES": "false",
        "STREAMER_TABLE_PREFIX": "no-table-",
    }
    forked, started = (
        command(*arguments.split(), stdin='{"n": 1}', executable=executable, **settings)
        for executable in (None, PROGRAM)
    )
    assert forked.args == started.args
    assert forked.returncode == started.returncode
    new_id = r"key \w+(-\w+){4}"
    assert re.sub(new_id, "", forked.stderr) == re.sub(new_id, "", started.stderr)
    assert forked.stdout == started.stdout


def test_it_has_its_own_environment_and_path(tmp_path: Path) -> None:
    """It has no variable of the process before. Plugins are found on its PYTHONPATH."""
    code = "from streamer_worker import handler\n\n@handler('a')\nasync def a(p, c): pass\n"
    path = str(plugin(tmp_path, "mine", code, "a = mine:a"))
    assert "mine:a" in command("handlers", PYTHONPATH=path).stdout
    assert "mine:a" not in command("handlers").stdout
    assert command("config", STREAMER_CONCURRENCY="none").returncode == 2
    assert command("config").returncode == 0


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Process]:
    """Yield a process that waits."""
    path = str(plugin(tmp_path, "waits", WAITS, "a = waits:a"))
    with Process("handlers", PYTHONPATH=path) as process:
        process.found("imported")
        yield process


def test_a_signal_ends_it_with_a_negative_code(waiting: Process) -> None:
    """The exit code is the one that subprocess.Popen has. A later signal is ignored."""
    waiting.signal(signal.SIGKILL)
    assert waiting.ended() == -signal.SIGKILL
    waiting.signal(signal.SIGKILL)


@pytest.mark.usefixtures("waiting")
def test_it_has_three_descriptors(tmp_path: Path) -> None:
    """It has its streams, and no descriptor of the server or of another process."""
    path = str(plugin(tmp_path, "opened", PRINTS, "a = opened:a"))
    more = {"PYTHONPATH": path, "OPEN_FILE": str(tmp_path / "open")}
    assert command("handlers", **more).returncode == 2
    assert (tmp_path / "open").read_text() == "[0, 1, 2]"


@pytest.mark.parametrize("name", ["PYTHONUTF8", "LC_ALL", "TZ", "COVERAGE_PROCESS_CONFIG"])
def test_a_process_with_another_python_is_started(name: str) -> None:
    """Python reads these variables when it starts, so a forked process would ignore them."""
    assert not can_fork(environment(**{name: "1"}))
