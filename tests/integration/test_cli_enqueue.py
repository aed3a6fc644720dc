"""`enqueue` of one request: its fields, its payload, warnings, and waiting for its end."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from integration.desk import Desk, desk
from processes import COMMAND, PATIENCE, Process, command, environment
from streamer_store import AccessDenied, FleetRows, Stores, WorkerRow
from streamer_store.workers import WorkerTable

__all__ = ["desk"]


def add_worker(desk: Desk, *actions: str) -> None:
    row = WorkerRow(
        worker_id="w1", started_at=datetime.now(UTC), concurrency=4, actions=frozenset(actions)
    )
    desk.do(lambda stores: stores.workers.register(row))


def test_a_request_has_the_given_fields(desk: Desk) -> None:
    """An id that is taken is refused, and nothing is overwritten."""
    options = ("--id", "r1", "--max-retries", "0", "--priority", "HIGH")
    assert desk.run("enqueue", "a", *options).stdout == "r1\n"
    shown = desk.json("show", "r1")
    assert (shown["request_id"], shown["max_retries"], shown["priority"]) == ("r1", 0, "high")
    again = command("enqueue", "b", "--id", "r1", **desk.settings)
    assert (again.returncode, again.stdout) == (1, "")
    assert desk.json("show", "r1")["action"] == "a"


@pytest.mark.parametrize(
    "options",
    [
        ("--id", ""),
        ("--max-retries", "-1"),
        ("--priority", "urgent"),
        ("--timeout", "5s"),
        ("--wait", "--timeout", "soon"),
        ("--wait", "--timeout", "0"),
        ("--file", "x", "--priority", "high"),
        ("--file", "x", "--timeout", "1s"),
    ],
    ids=" ".join,
)
def test_wrong_options_are_refused(options: tuple[str, ...], desk: Desk) -> None:
    """With exit code 2, before anything is added."""
    arguments = () if "--file" in options else ("a",)
    desk.run("enqueue", *arguments, *options, code=2)
    assert desk.ids() == []


def payload_of(desk: Desk, request_id: str) -> Any:
    return desk.json("show", request_id.strip())["payload"]


@contextmanager
def pipe(data: bytes, *, closed: bool) -> Iterator[int]:
    """Give the end of a pipe that has data, and that may end after it."""
    reading, writing = os.pipe()
    os.write(writing, data)
    if closed:
        os.close(writing)
    yield reading
    os.close(reading)
    if not closed:
        os.close(writing)


def test_what_is_piped_in_is_the_payload(desk: Desk) -> None:
    """A file too. What is no JSON object is refused."""
    with pipe(b'{"n": 1}\n', closed=True) as stdin:
        ended = command("enqueue", "a", stdin=stdin, **desk.settings)
    assert payload_of(desk, ended.stdout) == {"n": 1}
    ended = command("enqueue", "a", stdin='{"n": 2}', **desk.settings)
    assert payload_of(desk, ended.stdout) == {"n": 2}
    ended = command("enqueue", "a", "--payload", '{"n": 3}', stdin='{"n": 4}', **desk.settings)
    assert payload_of(desk, ended.stdout) == {"n": 3}
    for text, reason in (("next line of a loop", "not JSON"), (" " * 2_000_000, "longer than")):
        ended = command("enqueue", "a", stdin=text, **desk.settings)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert ended.stderr.startswith(f"error: payload: {reason}")


def test_nothing_piped_in_is_an_empty_payload(desk: Desk) -> None:
    """An empty file, a pipe that has ended, /dev/null and a closed standard input, as of cron."""
    with pipe(b"", closed=True) as ended, open(os.devnull) as null:  # noqa: PTH123
        for stdin in ("", ended, null.fileno()):
            done = command("enqueue", "a", stdin=stdin, **desk.settings)
            assert payload_of(desk, done.stdout) == {}
    done = subprocess.run(  # noqa: S603
        ["sh", "-c", f"{COMMAND[0]} enqueue a <&-"],  # noqa: S607
        env=environment(**desk.settings),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert payload_of(desk, done.stdout) == {}


def test_a_pipe_that_stays_open_is_refused(desk: Desk) -> None:
    """It does not hang, and the error says what to do. --payload needs no standard input."""
    with pipe(b"", closed=False) as stdin:
        ended = command("enqueue", "a", stdin=stdin, **desk.settings)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert "--payload - to wait for the data" in ended.stderr
        done = command("enqueue", "a", "--payload", "{}", stdin=stdin, **desk.settings)
        assert payload_of(desk, done.stdout) == {}


def test_a_pipe_that_ends_late_is_waited_for(desk: Desk) -> None:
    """The command says what it waits for."""
    with subprocess.Popen(  # noqa: S603
        [*COMMAND, "enqueue", "a"],
        env=environment(**desk.settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b'{"n": ')
        process.stdin.flush()
        assert process.stderr.readline() == (
            b"reading the payload from standard input, until it ends\n"
        )
        stdout, _ = process.communicate(b"5}", timeout=PATIENCE)
    assert payload_of(desk, stdout.decode()) == {"n": 5}


def test_a_request_that_no_live_worker_runs_is_a_warning(desk: Desk) -> None:
    """It is added all the same. JSON stays whole."""
    ended = desk.run("enqueue", "a")
    assert ended.stderr == "warning: no worker is alive. The request waits until one starts\n"
    add_worker(desk, "echo", "greet")
    ended = desk.run("enqueue", "ecko", "--json")
    assert "no live worker handles the action 'ecko' (did you mean 'echo'?)" in ended.stderr
    assert json.loads(ended.stdout)["action"] == "ecko"
    assert desk.run("enqueue", "echo").stderr == ""


def test_who_may_not_read_the_workers_can_enqueue(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Producers need no permission for the table of workers."""

    async def refused(_self: WorkerTable) -> FleetRows:
        raise AccessDenied("AccessDeniedException: Scan")

    monkeypatch.setattr(WorkerTable, "read_all", refused)
    assert desk.run("enqueue", "a", "--id", "r1").stderr == ""


def test_waiting_ends_after_the_timeout(desk: Desk) -> None:
    """With exit code 124. The request goes on, and the warning says why it waited."""
    ended = desk.run("enqueue", "a", "--id", "r1", "--wait", "--timeout", "300ms", code=124)
    assert "no worker is alive" in ended.stderr
    assert "r1 is PENDING after 300ms and goes on" in ended.stderr
    assert ended.stdout.startswith("r1\nstatus")
    ended = desk.run("watch", "r1", "--timeout", "300ms", code=124)
    assert (ended.stdout, "goes on" in ended.stderr) == ("PENDING 0%\n", True)


def test_waiting_shows_a_bar_on_a_terminal(desk: Desk) -> None:
    """On stderr, while stdout has the id and the request."""
    controller, terminal = pty.openpty()
    arguments = [*COMMAND, "enqueue", "a", "--payload", "{}", "--wait", "--timeout", "1s"]
    with subprocess.Popen(  # noqa: S603
        arguments,
        env=environment(**desk.settings) | {"TERM": "xterm", "COLUMNS": "80"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
    ) as process:
        os.close(terminal)
        drawn = b""
        while True:
            try:
                drawn += os.read(controller, 65_536)
            except OSError:  # the other end is closed
                break
        stdout = process.communicate(timeout=PATIENCE)[0]
    os.close(controller)
    assert process.returncode == 124
    assert re.search(rb"PENDING +0% ", drawn)
    assert "0%" not in stdout
    assert "status" in stdout


def test_watching_repeats_no_line(desk: Desk) -> None:
    """A change that the line does not show, such as a checkpoint, prints nothing."""
    desk.enqueue("r1-abc")

    async def work(stores: Stores) -> None:
        (claim,) = await stores.requests.dequeue(1)
        with Process("watch", "r1-a", "--every", "0.1", **desk.settings) as watch:
            watch.found("^PROCESSING 0%$")
            for number in range(3):
                await stores.requests.checkpoint(claim, number)
            text = "long " * 60
            await stores.requests.update_progress(claim, 0.5, text)
            watch.found(f"^PROCESSING 50% {text.strip()}$")
            await stores.requests.complete(claim)
            assert watch.ended() == 0
        assert [line.split()[0] for line in watch.lines] == [
            "PROCESSING",
            "PROCESSING",
            "COMPLETED",
        ]

    desk.do(work)
