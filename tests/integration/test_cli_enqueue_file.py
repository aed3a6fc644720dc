"""The command that enqueues the requests of a file, a pipe or standard input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from integration.desk import Desk, desk, lines, statuses
from processes import PATIENCE, PROGRAM, Process, command, environment

__all__ = ["desk"]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def file(tmp_path: Path) -> str:
    return lines(
        tmp_path / "requests.jsonl",
        {"action": "a", "request_id": "r1", "payload": {"n": 1}, "tenant_id": "t1"},
        "",
        {"action": "a", "request_id": "r2", "priority": "low", "max_retries": 0},
        {"action": "b", "created_at": "2026-01-31T12:00:00+00:00"},
    )


def test_a_file_is_enqueued(desk: Desk, file: str) -> None:
    """Each line is a request with the fields of the line."""
    assert desk.run("enqueue", "--file", file, "--yes").stdout == "3 requests enqueued\n"
    first = desk.json("show", "r1")
    assert (first["payload"], first["tenant_id"], first["status"]) == ({"n": 1}, "t1", "PENDING")
    second = desk.json("show", "r2")
    assert (second["status"], second["priority"], second["max_retries"]) == ("SCHEDULED", "low", 0)
    (third,) = desk.json("list", "--action", "b")
    assert third["created_at"] == "2026-01-31T12:00:00.000000Z"


def test_a_file_that_is_enqueued_again_adds_what_is_missing(desk: Desk, file: str) -> None:
    """Requests that are there with the same fields are left alone, whatever became of them."""
    arguments = ("enqueue", "--file", file, "--id-prefix", "x-", "--yes")
    desk.run(*arguments)
    desk.run("cancel", "r1")
    desk.run("cancel", "x-4")
    desk.run("delete", "x-4")
    assert desk.run(*arguments).stdout == "1 request enqueued, 2 there already\n"
    assert statuses(desk) == {"r1": "CANCELLED", "r2": "SCHEDULED", "x-4": "PENDING"}


def test_lines_that_are_wrong_are_refused_by_number(desk: Desk, tmp_path: Path) -> None:
    """The others are enqueued, and the exit code is 1."""
    desk.enqueue("taken", payload={"n": 1})
    path = lines(
        tmp_path / "bad.jsonl",
        {"action": "a", "request_id": "good"},
        "not json",
        '["a list"]',
        {"acton": "a"},
        {"request_id": "no action"},
        {"action": "a", "request_id": "taken", "payload": {"n": 2}},
        {"action": "a", "payload": "text"},
        {"action": "a", "priority": "urgent"},
        {"action": "a", "created_at": "yesterday"},
        {"action": "a", "max_retries": -1},
        '{"action": "a", "payload": {"n": NaN}}',
        {"action": "a", "payload": {"text": "x" * 500_000}},
        '{"action": "' + "x" * 2_000_000 + '"}',
        {"action": "a", "request_id": "x" * 3_000},
        "[" * 100_000,
        {"action": "a", "request_id": "last"},
    )
    result = desk.run("enqueue", "--file", path, "--yes", code=1)
    assert result.stdout == "2 requests enqueued, 14 refused\n"
    refused = result.stderr.splitlines()
    assert [line.split()[2].rstrip(":") for line in refused] == [str(n) for n in range(2, 16)]
    for number, text in {
        2: "not JSON",
        3: "must be a JSON object, not list",
        4: "field: 'acton' is unknown; did you mean 'action'?",
        5: "action: is missing",
        6: "(taken): a request with this id exists, with another payload",
        8: "'urgent' is none of high, normal, low",
        9: "'yesterday' is no time",
        13: "longer than 1638400 bytes",
        15: "is nested too deeply",
    }.items():
        assert text in refused[number - 2]
    assert set(statuses(desk)) == {"taken", "good", "last"}
    fields = desk.json("enqueue", "--file", path, "--yes", code=1)
    assert (fields["enqueued"], fields["present"], len(fields["refused"])) == (0, 2, 14)
    assert fields["refused"][4]["error"] == "AlreadyExists"
    assert fields["refused"][4]["line"] == 6


def test_a_dry_run_checks_the_lines(desk: Desk, file: str, tmp_path: Path) -> None:
    assert desk.run("enqueue", "--file", file, "--dry-run").stdout == "would enqueue 3 requests\n"
    path = lines(
        tmp_path / "bad", {"action": "a"}, {"action": "a", "payload": {"x": "x" * 500_000}}
    )
    result = desk.run("enqueue", "--file", path, "--dry-run", code=1)
    assert result.stdout == "would enqueue 1 request, 1 refused\n"
    assert "refused line 2" in result.stderr
    assert statuses(desk) == {}


def test_standard_input_is_a_file(desk: Desk, file: str) -> None:
    """It can be read only once, so that --yes is needed."""
    with Path(file).open() as stream:
        ended = command("enqueue", "--file", "-", stdin=stream.fileno(), **desk.settings)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--yes" in ended.stderr
    with Path(file).open() as stream:
        ended = command("enqueue", "--file", "-", "--yes", stdin=stream.fileno(), **desk.settings)
    assert (ended.returncode, ended.stdout) == (0, "3 requests enqueued\n")


def test_empty_and_missing_files(desk: Desk, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    assert desk.run("enqueue", "--file", str(empty)).stdout == "0 requests enqueued\n"
    for path in ("nowhere", str(tmp_path), "/proc/self/mem"):  # its read fails
        ended = command("enqueue", "--file", path, "--yes", **desk.settings)
        assert ended.returncode == 1
        assert ended.stderr.count("\n") == 1
        assert f"cannot read {path}" in ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--dry-run",),
        ("a", "--dry-run"),
        ("a", "--file", "x"),
        ("--file", "x", "--payload", "{}"),
        ("--file", "x", "--wait"),
        ("a", "--id-prefix", "x"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(
    arguments: tuple[str, ...], desk: Desk
) -> None:
    desk.run("enqueue", *arguments, code=2)


def test_a_closed_standard_input_is_one_error(desk: Desk) -> None:
    for arguments in (("enqueue", "--file", "-", "--yes"), ("enqueue", "a", "--payload", "-")):
        program = [PROGRAM, *arguments]
        closed = subprocess.run(  # noqa: S603
            ["/bin/sh", "-c", 'exec "$@" <&-', "sh", *program],
            env=environment(**desk.settings),
            capture_output=True,
            text=True,
            check=False,
        )
        assert closed.returncode == 1
        assert "standard input" in closed.stderr
        assert closed.stderr.count("\n") == 1


def test_the_lines_of_a_pipe_are_enqueued_as_they_come(desk: Desk, tmp_path: Path) -> None:
    """Ctrl-C ends the command while the pipe is open."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with (
        Process("enqueue", "--file", str(pipe), "--yes", **desk.settings) as process,
        pipe.open("w") as writer,
    ):
        for request_id in ("r1", "r2"):
            writer.write(json.dumps({"action": "a", "request_id": request_id}) + "\n")
            writer.flush()
            wait_for(lambda wanted=request_id: wanted in statuses(desk))  # type: ignore[misc]
        process.signal(signal.SIGINT)
        process.found("interrupted: 2 requests enqueued. Run the same command again to go on")
        assert process.ended() == 130


def test_a_line_with_a_ttl_is_there_already_whatever_became_of_it(
    desk: Desk, tmp_path: Path
) -> None:
    """A cancellation sets another TTL."""
    path = lines(tmp_path / "one", {"action": "a", "request_id": "r1", "ttl": 1_999_999_999})
    desk.run("enqueue", "--file", path)
    desk.run("cancel", "r1")
    assert desk.run("enqueue", "--file", path).stdout == "0 requests enqueued, 1 there already\n"


def test_the_question_names_lines_that_are_wrong_or_have_no_id(desk: Desk, tmp_path: Path) -> None:
    path = lines(tmp_path / "some", {"action": "a"}, {"action": "a", "request_id": "r"}, "x")
    question = (
        "Enqueue 2 requests (1 line will be refused; 1 have no id, and would be added again if"
        " repeated)?"
    )
    assert question in desk.run("enqueue", "--file", path, code=2).stderr
