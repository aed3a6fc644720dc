"""The `demo` command."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from processes import COMMAND, PATIENCE, PROGRAM, Process, command, environment, page
from streamer_worker import Context, Reject, handler
from streamer_worker.demo import scenario
from streamer_worker.demo.handlers import HANDLERS

if TYPE_CHECKING:
    from pathlib import Path
from typing import Any

SUMMARY = r"In the table: (\d+) completed, (\d+) failed"


def test_plain_lines_and_a_summary() -> None:
    """Without a terminal each change is a line, the summary agrees with them, and it exits 0."""
    ended = command("demo")
    assert ended.returncode == 0, ended.stderr
    summary = re.search(SUMMARY, ended.stdout)
    assert summary is not None
    completed, failed = map(int, summary.groups())
    assert ended.stdout.count(" COMPLETED") == completed
    assert ended.stdout.count(" FAILED") == failed
    assert f"{completed + failed} requests in" in ended.stdout
    assert completed + failed >= 24
    assert "Every request ended as expected" in ended.stdout
    assert "\x1b[" not in ended.stdout
    assert ended.stderr == ""


def test_a_live_table_on_a_terminal() -> None:
    """A terminal gets a table with progress bars, and then the summary."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(  # noqa: S603
        [*COMMAND, "demo"],
        stdout=terminal,
        stderr=terminal,
        env=environment(TERM="xterm-256color", COLUMNS="110", LINES="30"),
    )
    os.close(terminal)
    shown = _read_all(controller)
    assert process.wait(PATIENCE) == 0
    assert "generate_report" in shown
    assert "━" in shown
    assert re.search(SUMMARY, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown))


def test_keep_running_serves_metrics_until_ctrl_c() -> None:
    """With --keep-running it serves /metrics. Ctrl-C ends it without a traceback."""
    with Process("demo", "--keep-running") as demo:
        metrics = page(demo.found(r"metrics at (\S+)"))
        assert 'streamer_worker_requests_finished_total{action="echo"' in metrics
        demo.found("Ctrl-C to stop it")
        demo.signal(signal.SIGINT)
        assert demo.ended() == 0
        assert not any("Traceback" in line for line in demo.lines)


@pytest.mark.anyio
async def test_a_request_in_an_unexpected_status_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The summary names the request and both statuses, and the demo returns False."""

    @handler(HANDLERS[0].action)
    async def broken(_payload: dict[str, Any], _ctx: Context) -> None:
        raise Reject("not today")

    monkeypatch.setattr(scenario, "HANDLERS", [broken, *HANDLERS[1:]])
    console = Console(record=True, width=120, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123, ASYNC230
    with console.file:
        assert not await scenario.run_demo(console, keep_running=False)
    assert "is FAILED, expected COMPLETED" in console.export_text()


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    """The error has the pip command, and no traceback."""
    (tmp_path / "moto.py").write_text('raise ModuleNotFoundError("No module named moto")')
    ended = command("demo", executable=PROGRAM, PYTHONPATH=str(tmp_path))
    assert ended.returncode == 2
    assert "pip install 'streamer-worker[demo]'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_caller_s_settings_are_ignored() -> None:
    """AWS, proxy and STREAMER_ variables of the caller do not affect the demo."""
    ended = command(
        "demo",
        AWS_PROFILE="no_such_profile",
        AWS_ENDPOINT_URL_DYNAMODB="http://127.0.0.1:1",
        HTTP_PROXY="http://127.0.0.1:1",
        STREAMER_HTTP_ENABLED="false",
        STREAMER_CONCURRENCY="none",
    )
    assert ended.returncode == 0, ended.stderr
    assert "metrics at http://" in ended.stdout


def test_a_closed_pipe_ends_the_demo() -> None:
    """After `demo | head -1` it exits with 1, and prints no traceback."""
    with subprocess.Popen(  # noqa: S603
        [*COMMAND, "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        stderr = process.stderr.read()
        assert process.wait(PATIENCE) == 1
    assert stderr == ""


def _read_all(terminal: int) -> str:
    chunks: list[bytes] = []
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # the other end is closed
            chunk = b""
        if not chunk:
            os.close(terminal)
            return b"".join(chunks).decode(errors="replace")
        chunks.append(chunk)
