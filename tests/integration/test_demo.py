"""The `demo` command."""

from __future__ import annotations

import io
import os
import pty
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from rich.console import Console

from processes import COMMAND, PATIENCE, PROGRAM, Process, command, environment, page
from streamer_worker.demo.scenario import run_demo
from streamer_worker.demo.view import View
from streamer_worker.errors import StartError

SUMMARY = r"requests in [0-9.]+ s: (\d+) completed, (\d+) failed"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(scope="module")
def ended() -> subprocess.CompletedProcess[str]:
    """Run the demo once, without a terminal."""
    return command("demo")


def test_plain_lines_and_a_summary(ended: subprocess.CompletedProcess[str]) -> None:
    """Without a terminal: a line for each scene and each end, the summary, and what to try next."""
    assert ended.returncode == 0, ended.stdout + ended.stderr
    summary = re.search(SUMMARY, ended.stdout)
    assert summary is not None
    completed, failed = map(int, summary.groups())
    assert ended.stdout.count("  completed  ") == completed
    assert ended.stdout.count("  failed  ") == failed
    assert "Every request ended as expected" in ended.stdout
    assert len(ended.stdout.splitlines()) < 30
    assert "streamer-worker dev --handlers hello:greet" in ended.stdout
    assert "\x1b[" not in ended.stdout
    assert "http://" not in ended.stdout  # nothing that has ended is linked
    assert ended.stderr == ""


def test_a_retry_and_a_killed_worker_are_shown(ended: subprocess.CompletedProcess[str]) -> None:
    """send_mail fails first. import_rows continues on the other worker, after its checkpoint."""
    output = ended.stdout
    assert re.search(r"send_mail +retrying +no answer", output)
    assert re.search(r"send_mail +completed +worker \w +at its second attempt", output)
    killed = re.search(r"worker (\w) was killed by SIGKILL", output)
    assert killed is not None
    rows = re.search(r"import_rows +completed +worker (\w) +row 25 of 25, from row (\d+)", output)
    assert rows is not None
    assert rows.group(1) != killed.group(1)
    assert int(rows.group(2)) > 10


def test_a_picture_that_fits_a_terminal() -> None:
    """It has 80 columns and 24 lines at most. Rows keep their order, and no running bar is red."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(  # noqa: S603
        [*COMMAND, "demo"],
        stdout=terminal,
        stderr=terminal,
        env={
            name: value
            for name, value in environment(TERM="xterm-256color", COLUMNS="80", LINES="24").items()
            if name != "NO_COLOR"
        },
    )
    os.close(terminal)
    shown = _read_all(controller).replace("\r", "")
    assert process.wait(PATIENCE) == 0
    assert re.search(SUMMARY, ESCAPES.sub("", shown))
    frames = [ESCAPES.sub("", frame) for frame in re.split(r"\x1b\[2K(?:\x1b\[1A\x1b\[2K)+", shown)]
    assert max(len(line) for frame in frames for line in frame.splitlines()) <= 80
    assert max(len(frame.splitlines()) for frame in frames) <= 24
    orders = [re.findall(r"^(\w+) .*[━╸╺]", frame, re.MULTILINE) for frame in frames]
    last = orders[-1]
    assert len(last) == 9
    assert all(order == last[: len(order)] for order in orders)
    running = [line for line in shown.splitlines() if "processing" in line]
    assert any("━" in line for line in running)
    red = re.compile(r"\x1b\[(?:\d+;)*(?:31|38;5;197|38;2;249;38;114)m")
    assert not any(red.search(line) for line in running)


def test_keep_running_serves_metrics_until_ctrl_c() -> None:
    """With --keep-running the worker that is left serves /metrics. Ctrl-C ends it quietly."""
    with Process("demo", "--keep-running") as demo:
        metrics = page(demo.found(r"metrics at (\S+)"))
        assert 'streamer_worker_requests_finished_total{action="import_rows"' in metrics
        demo.found("Ctrl-C to stop it")
        demo.signal(signal.SIGINT)
        assert demo.ended() == 0
        assert not any("Traceback" in line for line in demo.lines)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_is_left(number: signal.Signals) -> None:
    """Its two workers end with the demo, in whichever way it ends."""
    with Process("demo") as demo:
        demo.found("1 of 3")
        workers = _children(demo.pid)
        assert len(workers) == 2
        demo.signal(number)
        demo.ended()
        deadline = time.monotonic() + PATIENCE
        while any(_runs(pid) for pid in workers) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(_runs(pid) for pid in workers)
        assert not any("Traceback" in line for line in demo.lines)


BROKEN = """
from streamer_worker import Reject, handler
from streamer_worker.demo.handlers import bulk_update, charge_card, echo, import_rows, send_mail

@handler("generate_report")
async def broken(payload, ctx):
    raise Reject("not today")
"""


@pytest.mark.anyio
async def test_a_request_in_an_unexpected_status_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The summary names the request and both statuses, and the demo returns False."""
    (tmp_path / "broken_demo.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    out = io.StringIO()
    view = View(Console(file=out, width=120))
    assert not await run_demo(view, keep_running=False, references=["broken_demo"])
    assert len(re.findall("generate_report .* is FAILED, expected COMPLETED", out.getvalue())) == 2


@pytest.mark.anyio
async def test_a_worker_that_does_not_start_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has the worker's own words."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StartError, match="no module 'no_such_module'"):
        await run_demo(
            View(Console(file=io.StringIO())), keep_running=False, references=["no_such_module"]
        )


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
    assert "Every request ended as expected" in ended.stdout


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
        process.stdout.close()  # the next line fails
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


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
