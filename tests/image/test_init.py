"""What process 1 of a container owes to the others, in a namespace of the test's own."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from processes import Process

PROGRAM = """
import os, signal, subprocess, sys, time
from streamer_worker.cli.init import serve_as_init

serve_as_init()

def leave(number, frame):
    print("told", signal.Signals(number).name, flush=True)
    sys.exit(7)

signal.signal(signal.SIGTERM, leave)
signal.signal(signal.SIGINT, leave)
for _ in range(5):
    subprocess.run(["sh", "-c", "sleep 0.1 & sleep 0.1 &"], check=True)
deadline = time.monotonic() + 10
while time.monotonic() < deadline:
    states = {}
    for each in os.listdir("/proc"):
        if each.isdecimal():
            try:
                text = open(f"/proc/{each}/stat").read()
            except OSError:
                continue
            states[int(each)] = text.rpartition(")")[2].split()[0]
    if len(states) == 2 and "Z" not in states.values():
        break
    time.sleep(0.02)
print("left", sorted(states), "as", os.getpid(), "of", os.getppid(), flush=True)
if "die" in sys.argv:
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _namespaces() -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        if os.environ.get("STREAMER_TEST_REQUIRE_ALL"):
            pytest.fail("namespaces need root, and Linux")
        pytest.skip("namespaces need root, and Linux")


def contained(*arguments: str) -> Process:
    namespaces = ("--pid", "--fork", "--mount-proc", "--kill-child")
    program = (sys.executable, "-c", PROGRAM, *arguments)
    return Process(*namespaces, *program, executable="unshare")


def init_of(container: Process) -> int:
    tasks = Path(f"/proc/{container.pid}/task/{container.pid}/children")
    return int(tasks.read_text().split()[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_buries_orphans_and_passes_signals_on(number: signal.Signals) -> None:
    """Ten processes that nobody waits for are gone; the exit code is the worker's."""
    with contained() as container:
        container.found("left .1, 2. as 2 of 1")
        os.kill(init_of(container), number)
        container.found(f"told {number.name}")
        assert container.ended() == 7


def test_a_worker_that_is_killed_is_told_as_shells_tell_it() -> None:
    """128, and the signal's number."""
    with contained("die") as container:
        container.found("left")
        assert container.ended() == 128 + signal.SIGKILL
