"""The demo, as a stranger runs it."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from processes import COMMAND, PATIENCE, Process, command, environment, page
from streamer_worker import Context, Reject, handler
from streamer_worker.demo import scenario
from streamer_worker.demo.handlers import HANDLERS

if TYPE_CHECKING:
    from pathlib import Path
from typing import Any

SUMMARY = r"Read back from the table: (\d+) completed, (\d+) failed"


def test_plain_lines_and_a_summary() -> None:
    """Not on a terminal each change is a line; the counts agree with the lines; exit code 0."""
    ended = command("demo")
    assert ended.returncode == 0, ended.stderr
    found = re.search(SUMMARY, ended.stdout)
    assert found is not None
    completed, failed = map(int, found.groups())
    assert ended.stdout.count(" COMPLETED") == completed
    assert ended.stdout.count(" FAILED") == failed
    assert f"{completed + failed} requests in" in ended.stdout
    assert completed + failed >= 24
    assert "Every request ended as it should" in ended.stdout
    assert "\x1b[" not in ended.stdout
    assert ended.stderr == ""


def test_a_live_table_on_a_terminal() -> None:
    """Progress bars move in place; the summary stands at the end."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(  # noqa: S603
        [*COMMAND, "demo"],
        stdout=theirs,
        stderr=theirs,
        env=environment(TERM="xterm-256color", COLUMNS="110", LINES="30"),
    )
    os.close(theirs)
    shown = _all_of(ours)
    assert process.wait(PATIENCE) == 0
    assert "generate_report" in shown
    assert "━" in shown
    assert re.search(SUMMARY, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown))


def test_it_stays_up_when_asked() -> None:
    """/metrics is there, and Ctrl-C ends it without a traceback."""
    with Process("demo", "--keep-running") as demo:
        metrics = page(demo.found(r"/metrics was at (\S+)"))
        assert 'streamer_worker_requests_finished_total{action="echo"' in metrics
        demo.found("Ctrl-C ends it")
        demo.signal(signal.SIGINT)
        assert demo.ended() == 0
        assert not any("Traceback" in line for line in demo.lines)


@pytest.mark.anyio
async def test_a_request_that_ends_otherwise_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo says which, and that it did not go well."""

    @handler(HANDLERS[0].action)
    async def broken(_payload: dict[str, Any], _ctx: Context) -> None:
        raise Reject("not today")

    monkeypatch.setattr(scenario, "HANDLERS", [broken, *HANDLERS[1:]])
    console = Console(record=True, width=120, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123, ASYNC230
    with console.file:
        assert not await scenario.run_demo(console, keep_running=False)
    assert "NOT as it should be" in console.export_text()


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    """In words, not with a traceback."""
    (tmp_path / "moto.py").write_text('raise ModuleNotFoundError("No module named moto")')
    ended = command("demo", PYTHONPATH=str(tmp_path))
    assert ended.returncode == 2
    assert "pip install 'streamer-worker[demo]'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_caller_s_settings_do_not_matter() -> None:
    """Its own AWS, proxy and STREAMER_ variables: the demo talks to its embedded engine alone."""
    ended = command(
        "demo",
        AWS_PROFILE="no_such_profile",
        AWS_ENDPOINT_URL_DYNAMODB="http://127.0.0.1:1",
        HTTP_PROXY="http://127.0.0.1:1",
        STREAMER_HTTP_ENABLED="false",
        STREAMER_CONCURRENCY="none",
    )
    assert ended.returncode == 0, ended.stderr
    assert "/metrics was at http://" in ended.stdout


def test_nobody_reads_on() -> None:
    """As in `demo | head -1`: it ends with 1, and prints no traceback."""
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
        told = process.stderr.read()
        assert process.wait(PATIENCE) == 1
    assert told == ""


def _all_of(terminal: int) -> str:
    found: list[bytes] = []
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # the other end is closed
            chunk = b""
        if not chunk:
            os.close(terminal)
            return b"".join(found).decode(errors="replace")
        found.append(chunk)
