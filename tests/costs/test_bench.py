"""The benchmarks run, and leave no process behind. Their figures are not checked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from processes import PATIENCE, ROOT, Process, environment

pytestmark = pytest.mark.local
BENCH = ("-m", "bench")


def test_a_drain_has_figures_of_each_consumer(local_url: str, tmp_path: Path) -> None:
    """What saq needs may be missing. Then the output says so."""
    path = tmp_path / "bench.json"
    ended = subprocess.run(  # noqa: S603
        [sys.executable, *BENCH, "drain", "--rounds", "1", "--requests", "50", "--json", str(path)],
        cwd=ROOT,
        env=environment(STREAMER_TEST_DYNAMODB_URL=local_url),
        capture_output=True,
        text=True,
        check=True,
        timeout=3 * PATIENCE,
    )
    drain = json.loads(path.read_text())["parts"]["drain"]
    positive = {figure["name"] for figure in drain["figures"] if figure["value"] > 0}
    assert positive >= {"ours", "ours-push", "single", "batched"}
    assert "saq" in positive or "saq is left out" in ended.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_drain_ends_its_processes(
    local_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    arguments = ("drain", "--only", "ours", "--rounds", "1", "--requests", "2000")
    settings = {"STREAMER_TEST_DYNAMODB_URL": local_url, "TMPDIR": str(tmp_path)}
    with Process(*BENCH, *arguments, executable=sys.executable, **settings) as bench:
        bench.found("warmed up")
        worker = _wait_for_child(bench.pid)
        bench.signal(number)
        assert bench.ended() != 0
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
    assert list(tmp_path.iterdir()) == []


def _wait_for_child(pid: int) -> int:
    """Wait until the process has a child, and return its id."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children:
            return int(children[0])
        time.sleep(0.01)  # nothing announces it
    raise AssertionError("no worker was started")
