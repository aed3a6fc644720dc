"""Commands that change many requests: enqueue --file, cancel, redrive, delete."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from integration.desk import Desk, desk
from integration.proxy import proxy_to, stalling
from integration.test_cli_asking import answered
from processes import PATIENCE, PROGRAM, Process, command, environment
from streamer_store import Priority, Stores
from streamer_worker.cli.selecting import RequestFilter, Selected
from support import unique_prefix

__all__ = ["desk"]


def lines(path: Path, *requests: dict[str, Any] | str) -> str:
    """Write a file of JSON Lines, and return its path."""
    texts = [text if isinstance(text, str) else json.dumps(text) for text in requests]
    path.write_text("\n".join(texts) + "\n")
    return str(path)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def statuses(desk: Desk) -> dict[str, str]:
    return {fields["request_id"]: fields["status"] for fields in desk.json("list")}


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
        4: "unknown field 'acton'; did you mean 'action'?",
        5: "action: is missing",
        6: "(taken): a request with this id exists, with another payload",
        8: "'urgent' is none of high, low",
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


def test_requests_are_cancelled_by_status_action_tenant_and_connection(desk: Desk) -> None:
    """Only those that match, and only those that have not ended."""
    desk.enqueue("failed")
    desk.fail("failed")
    desk.enqueue("old", ago=7200)
    desk.enqueue("1", "2", tenant_id="t1", connection_id="c1")
    desk.enqueue("low", priority=Priority.LOW, connection_id="c2")
    desk.enqueue("other", action="b")
    dry = desk.run("cancel", "--action", "a", "--since", "1h", "--dry-run")
    assert sorted(dry.stdout.split()) == ["1", "2", "low"]
    assert dry.stderr == "would cancel 3 requests\n"
    assert desk.json("cancel", "--status", "SCHEDULED")["cancelled"] == ["low"]
    assert desk.run("cancel", "--tenant", "t1", "--yes").stdout == "2 requests cancelled\n"
    assert desk.json("cancel", "--connection", "c1", "--yes")["cancelled"] == []
    assert desk.json("cancel", "--action", "b")["cancelled"] == ["other"]
    assert desk.json("cancel", "--status", "PENDING") == {
        "dry_run": False,
        "cancelled": ["old"],
        "connections_notified": 0,
        "refused": [],
        "more": False,
    }
    assert set(statuses(desk).values()) == {"FAILED", "CANCELLED"}


def test_requests_are_deleted_by_status_and_age(desk: Desk) -> None:
    """Only those that have ended."""
    desk.enqueue("waiting", ago=9 * 86400)
    desk.enqueue("old", "old 2", ago=4 * 86400)
    desk.enqueue("new", connection_id="c1")
    for request_id in ("old", "old 2", "new"):
        desk.run("cancel", request_id)
    arguments = ("delete", "--status", "CANCELLED", "--older-than", "3d")
    dry = desk.run(*arguments, "--dry-run")
    assert sorted(dry.stdout.splitlines()) == ["old", "old 2"]
    assert desk.run(*arguments, "--yes").stdout == "2 requests deleted\n"
    assert set(statuses(desk)) == {"waiting", "new"}
    assert desk.run("delete", "--connection", "c1").stdout == "1 request deleted\n"
    assert desk.run("delete", "--older-than", "1h").stdout == "0 requests deleted\n"
    assert set(statuses(desk)) == {"waiting"}


def test_one_request_is_deleted_if_it_has_ended(desk: Desk) -> None:
    desk.enqueue("r1")
    assert "the request is PENDING" in command("delete", "r1", **desk.settings).stderr
    desk.run("cancel", "r1")
    assert desk.run("delete", "r1").stdout == "deleted r1\n"
    ended = command("delete", "r1", **desk.settings)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "no such request" in ended.stderr


@pytest.mark.parametrize("name", ["cancel", "delete"])
@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--dry-run",),
        ("--yes",),
        ("r1", "--dry-run"),
        ("r1", "--action", "a"),
        ("r1", "--status", "FAILED"),
        ("--limit", "9"),
        ("--action", "a", "--limit", "0"),
        ("--action", "a", "--max-write-units", "0"),
        ("--status", "NONE"),
    ],
)
def test_a_change_needs_an_id_or_a_selection(
    name: str, arguments: tuple[str, ...], desk: Desk
) -> None:
    desk.enqueue("r1")
    desk.run(name, *arguments, code=2)
    assert statuses(desk) == {"r1": "PENDING"}


@pytest.mark.parametrize(
    ("name", "status"), [("cancel", "COMPLETED"), ("delete", "PENDING"), ("delete", "PROCESSING")]
)
def test_a_status_that_a_command_cannot_change_is_refused(
    name: str, status: str, desk: Desk
) -> None:
    assert "--status" in desk.run(name, "--status", status, code=2).stderr


@pytest.mark.parametrize("name", ["cancel", "redrive", "delete"])
def test_several_are_asked_for(name: str, desk: Desk) -> None:
    """One is not. The answer no changes nothing."""
    desk.enqueue("1", "2", "3")
    if name != "cancel":
        desk.fail("1", "2", "3")
    before = statuses(desk)
    arguments = (name, "--action", "a")
    ended = answered(desk, "n\n", *arguments)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"{name.capitalize()} 3 requests?" in ended.stderr
    desk.run(*arguments, code=2)
    assert statuses(desk) == before
    result = desk.run(*arguments, "--limit", "1")
    assert result.stdout.startswith("1 request ")
    assert "reached --limit 1: there are more requests" in result.stderr
    ended = answered(desk, "y\n", *arguments)
    assert (ended.returncode, ended.stdout.split()[:2]) == (0, ["2", "requests"])


def test_what_was_refused_is_listed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that changed after it was selected is refused. The exit code is 1."""
    desk.enqueue("1", "2")
    desk.fail("1", "2")

    async def stale(*_: Any, **__: Any) -> Selected:
        return Selected(["1", "gone", "2"], more=False)

    monkeypatch.setattr(RequestFilter, "ids", stale)
    desk.run("redrive", "2")
    result = desk.run("redrive", "--action", "a", "--yes", code=1)
    assert result.stdout == "1 request redriven, 2 refused\n"
    assert sorted(result.stderr.splitlines()) == [
        "refused 2: the request is PENDING",
        "refused gone: no such request",
    ]
    fields = desk.json("cancel", "--action", "a", "--yes", code=1)
    assert sorted(fields["cancelled"]) == ["1", "2"]
    assert fields["refused"] == [
        {"request_id": "gone", "error": "NotFound", "message": "no such request"}
    ]


def test_a_running_request_is_kept_where_only_waiting_ones_were_selected(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was claimed after it was selected."""

    async def stale(*_: Any, **__: Any) -> Selected:
        return Selected(["1"], more=False)

    monkeypatch.setattr(RequestFilter, "ids", stale)

    async def claim(stores: Stores) -> None:
        await stores.requests.dequeue(1)

    desk.enqueue("1")
    desk.do(claim)
    desk.run("cancel", "--status", "PENDING", code=1)
    assert statuses(desk) == {"1": "PROCESSING"}
    desk.run("cancel", "--status", "PROCESSING")
    assert statuses(desk) == {"1": "CANCELLED"}


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


def test_the_oldest_are_deleted_first(desk: Desk) -> None:
    for number in range(4):
        desk.enqueue(f"r{number}", ago=100 - number)
        desk.run("cancel", f"r{number}")
    fields = desk.json("delete", "--status", "CANCELLED", "--limit", "2", "--yes")
    assert (sorted(fields["deleted"]), fields["more"]) == (["r0", "r1"], True)


@pytest.mark.local
def test_many_requests_are_changed(local_url: str, tmp_path: Path) -> None:
    """More than fit into one slice."""
    path = lines(
        tmp_path / "many", *({"action": "a", "request_id": f"r{number}"} for number in range(1_200))
    )
    settings = {"STREAMER_ENDPOINT_URL": local_url, "STREAMER_TABLE_PREFIX": unique_prefix()}
    for arguments, text in (
        (("tables", "create"), "tables are ready\n"),
        (("enqueue", "--file", path, "--yes"), "1200 requests enqueued\n"),
        (("cancel", "--status", "PENDING", "--yes"), "1200 requests cancelled\n"),
        (("redrive", "--action", "a", "--cancelled", "--yes"), "1200 requests redriven\n"),
        (("cancel", "--action", "a", "--yes"), "1200 requests cancelled\n"),
        (("delete", "--action", "a", "--yes"), "1200 requests deleted\n"),
    ):
        ended = command(*arguments, **settings)
        assert ended.stderr == ""
        assert ended.stdout.endswith(text)


def test_an_interrupted_command_says_how_far_it_came(desk: Desk, tmp_path: Path) -> None:
    """And that the same command goes on. The exit code is that of Ctrl-C."""
    path = lines(tmp_path / "one", {"action": "a", "request_id": "r1"})
    called = threading.Event()

    async def stall(request: Any, forward: Any) -> Any:
        called.set()
        return await stalling(request, forward)

    with proxy_to(desk.settings["STREAMER_ENDPOINT_URL"]) as proxy:
        proxy.fault = stall
        through = desk.settings | {"STREAMER_ENDPOINT_URL": proxy.url}
        for arguments, text in (
            (("enqueue", "--file", path, "--yes"), "interrupted: 0 requests enqueued."),
            (("cancel", "--action", "a", "--yes"), "interrupted: 0 requests cancelled."),
        ):
            called.clear()
            with Process(*arguments, **through) as process:
                assert called.wait(PATIENCE)
                process.signal(signal.SIGINT)
                process.found(text)
                assert process.ended() == 130
