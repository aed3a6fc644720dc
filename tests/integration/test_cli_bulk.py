"""Commands that change many requests: cancel, redrive, delete."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from integration.desk import Desk, desk, lines, statuses
from integration.proxy import proxy_to, stalling
from processes import PATIENCE, Process, command
from streamer_store import Priority, Stores
from streamer_worker.cli.selecting import RequestFilter, Selected
from support import unique_prefix

__all__ = ["desk"]


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
    ended = desk.answered("n\n", *arguments)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"{name.capitalize()} 3 requests?" in ended.stderr
    desk.run(*arguments, code=2)
    assert statuses(desk) == before
    result = desk.run(*arguments, "--limit", "1")
    assert result.stdout.startswith("1 request ")
    assert "reached --limit 1: there are more requests" in result.stderr
    ended = desk.answered("y\n", *arguments)
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
