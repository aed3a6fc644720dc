"""The commands for operators: watch, redrive, reap, drain."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from integration.desk import HANDLER, Desk, desk
from integration.proxy import answering, proxy_to
from plugins import plugin
from processes import Process, command
from streamer_store import (
    Connection,
    Stores,
    WorkerRow,
)
from streamer_worker.cli.main import cli

__all__ = ["desk"]


def test_watching_follows_a_request_to_its_end(desk: Desk, tmp_path: Any) -> None:
    """Without a terminal each change is a line. The exit code is 0 for COMPLETED."""
    path = plugin(tmp_path, "steps", HANDLER, "steps = steps:steps")
    more = {"PYTHONPATH": str(path), "STREAMER_HTTP_PORT": "0"}
    with Process("run", **(desk.settings | more)) as worker:
        worker.event("worker_started")
        continue_file = tmp_path / "go-on"
        desk.enqueue("r", action="steps", payload={"until": str(continue_file)})
        with Process("watch", "r", "--every", "0.1", **desk.settings) as watch:
            assert watch.found("^PROCESSING 25% step 1$")
            continue_file.touch()
            assert watch.ended() == 0
        assert watch.lines[-1].startswith("COMPLETED 100%")
        desk.enqueue("r2", action="steps")
        result = command("watch", "r2", "--json", **desk.settings)
        changes = [json.loads(line) for line in result.stdout.splitlines()]
        assert changes[-1]["status"] == "COMPLETED"


def test_watching_a_failed_request_exits_with_1(desk: Desk) -> None:
    """The line has the error and its code."""
    desk.enqueue("1")
    desk.fail("1")
    assert "FAILED 0% BROKEN: it broke" in desk.run("watch", "1", code=1).stdout
    desk.enqueue("2")
    desk.run("cancel", "2")
    assert desk.run("watch", "2", code=1).stdout.startswith("CANCELLED")


def test_watching_warns_if_the_request_waits_for_a_worker(desk: Desk) -> None:
    """A request that runs or has ended needs no warning."""
    desk.enqueue("1")
    waiting = desk.run("watch", "1", "--timeout", "1", code=124)
    assert waiting.stdout == "PENDING 0%\n"
    warning, note = waiting.stderr.splitlines()
    assert warning == "warning: no worker is alive. The request waits until one starts"
    assert note.endswith("`streamer-worker watch 1` follows it")
    desk.fail("1")
    assert not desk.run("watch", "1", code=1).stderr


@pytest.mark.parametrize("name", ["show", "watch", "cancel", "redrive", "drain"])
def test_an_unknown_id_is_an_error(name: str, desk: Desk) -> None:
    """The error is one line with the id, and the exit code is 1."""
    ended = command(name, "nobody", **desk.settings)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.count("\n") == 1
    assert "nobody" in ended.stderr


def status(desk: Desk, request_id: str) -> str:
    return str(desk.json("show", request_id)["status"])


def test_one_request_is_redriven(desk: Desk) -> None:
    """A FAILED request is PENDING again. A PENDING one is refused."""
    desk.enqueue("1")
    desk.fail("1")
    assert desk.run("redrive", "1").stdout == "1 is PENDING again\n"
    assert status(desk, "1") == "PENDING"
    ended = command("redrive", "1", **desk.settings)
    assert ended.returncode == 1
    assert "PENDING" in ended.stderr


def test_many_requests_are_redriven(desk: Desk) -> None:
    """FAILED requests are selected by action and time. --cancelled adds CANCELLED ones."""
    desk.enqueue("old", ago=7200)
    desk.enqueue("1", "2")
    desk.fail("old", "1", "2")
    desk.enqueue("other", action="b")
    desk.fail("other")
    desk.enqueue("gone")
    desk.run("cancel", "gone")
    choice = ("redrive", "--action", "a", "--since", "1h")
    dry = desk.run(*choice, "--dry-run")
    assert sorted(dry.stdout.split()) == ["1", "2"]
    assert dry.stderr == "would redrive 2 requests\n"
    assert status(desk, "1") == "FAILED"
    assert desk.run(*choice, "--yes").stdout == "2 requests redriven\n"
    statuses = {
        request_id: status(desk, request_id) for request_id in ("1", "2", "old", "other", "gone")
    }
    assert statuses == {
        "1": "PENDING",
        "2": "PENDING",
        "old": "FAILED",
        "other": "FAILED",
        "gone": "CANCELLED",
    }
    result = desk.json("redrive", "--since", "1h", "--cancelled", "--limit", "1")
    assert result == {"dry_run": False, "redriven": ["other"], "refused": [], "more": True}
    assert sorted(desk.json("redrive", "--action", "a", "--cancelled", "-y")["redriven"]) == [
        "gone",
        "old",
    ]


@pytest.mark.parametrize(
    "arguments",
    [(), ("--dry-run",), ("r1", "--dry-run"), ("r1", "--action", "a"), ("--limit", "9")],
)
def test_a_redrive_needs_an_id_or_a_selection(arguments: tuple[str, ...], desk: Desk) -> None:
    """Without either it is refused, and so is an id together with a selection."""
    desk.enqueue("r1")
    desk.fail("r1")
    desk.run("redrive", *arguments, code=2)
    assert status(desk, "r1") == "FAILED"


def connection(number: int, **more: Any) -> Connection:
    fields: dict[str, Any] = {
        "connection_id": f"c{number}",
        "endpoint": "wss://abc.execute-api.eu-west-1.amazonaws.com/prod",
        "connected_at": datetime.now(UTC) - timedelta(hours=4),
        "user_id": f"u{number % 2}",
        "tenant_id": f"t{number % 3}",
    }
    return Connection(**(fields | more))


@pytest.fixture
def connected(desk: Desk) -> Desk:
    """Add six connections. The last pings of the first two are three hours old."""
    now = datetime.now(UTC)

    async def work(stores: Stores) -> None:
        for number in range(6):
            heard = now - timedelta(hours=3 if number < 2 else 0)
            await stores.connections.save(connection(number, last_ping=heard))

    desk.do(work)
    return desk


def test_connections_are_listed(connected: Desk) -> None:
    """They can be selected by user, by tenant, or by both."""

    def listed(*arguments: str) -> list[str]:
        connections = connected.json("connections", "list", *arguments)
        return sorted(connection["connection_id"] for connection in connections)

    assert listed() == ["c0", "c1", "c2", "c3", "c4", "c5"]
    assert listed("--user", "u1") == ["c1", "c3", "c5"]
    assert listed("--tenant", "t0") == ["c0", "c3"]
    assert listed("--user", "u1", "--tenant", "t0") == ["c3"]
    assert len(listed("--limit", "4")) == 4
    result = connected.run("connections", "list", "--user", "u0").stdout
    assert "execute-api" in result
    assert connected.run("connections", "list", "--user", "x").stdout == "no matching connections\n"


def test_stale_connections_are_deleted(connected: Desk) -> None:
    """--dry-run only counts. --stale-after sets the age."""
    dry = connected.json("connections", "reap", "--dry-run")
    assert (dry["dry_run"], dry["found"], dry["deleted"]) == (True, 2, 0)
    longer = connected.run("connections", "reap", "--stale-after", "5h", "--dry-run")
    assert longer.stdout == "would delete 0 stale connections\n"
    assert connected.run("connections", "reap", "--yes").stdout == "deleted 2 connections\n"
    assert len(connected.json("connections", "list")) == 4
    connected.run("connections", "reap", "--stale-after", "long", code=2)


def test_drain_writes_the_worker_s_row(desk: Desk) -> None:
    """The row has the drain request, and `workers` shows the worker as draining."""
    row = WorkerRow(worker_id="w1", started_at=datetime.now(UTC), concurrency=4)
    desk.do(lambda stores: stores.workers.register(row))
    assert desk.json("drain", "w1") == {"worker_id": "w1", "drain_requested": True}
    (listed,) = desk.json("workers")
    assert (listed["worker_id"], listed["drain"]) == ("w1", True)
    assert "draining" in desk.run("workers").stdout


def test_cancel_prints_json(desk: Desk) -> None:
    """It has the id, the status and the number of notified connections."""
    desk.enqueue("1")
    result = desk.json("cancel", "1")
    assert result == {"request_id": "1", "status": "CANCELLED", "connections_notified": 0}


@pytest.mark.parametrize(
    "name",
    [
        *("list", "show", "watch", "cancel", "redrive", "delete", "workers", "drain"),
        *("check", "config", "connections list", "connections reap", "handlers", "enqueue"),
    ],
)
def test_help_has_an_example_and_json(name: str) -> None:
    """Every command for operators has an example and --json."""
    result = CliRunner().invoke(cli, [*name.split(), "--help"], env={"COLUMNS": "200"}).output
    assert "Example" in result
    assert f"streamer-worker {name}" in result
    assert "--json" in result


def test_stale_after_has_the_limits_of_the_setting(connected: Desk) -> None:
    """A second would delete live connections, and 0 must not mean the default."""
    for text in ("1s", "0s", "-5h", "nan", "inf", "400d"):
        connected.run("connections", "reap", "--stale-after", text, code=2)
    assert len(connected.json("connections", "list")) == 6


@pytest.mark.parametrize("since", ["99999999999d", "800000d", "0001-01-01T00:00:00+23:00"])
def test_a_time_out_of_range_is_refused_or_selects_all(since: str, desk: Desk) -> None:
    """There is no traceback."""
    desk.enqueue("1")
    ended = command("list", "--since", since, "--json", **desk.settings)
    assert ended.returncode == 2 or json.loads(ended.stdout)
    assert "Traceback" not in ended.stderr


def test_a_table_that_fails_during_a_redrive_is_one_error(desk: Desk) -> None:
    """Ten writes fail at once, and one error is printed."""
    ids = [f"r{number}" for number in range(10)]
    desk.enqueue(*ids)
    desk.fail(*ids)
    with proxy_to(desk.settings["STREAMER_ENDPOINT_URL"]) as proxy:
        refuse = answering(400, "AccessDeniedException")

        async def fault(request: Any, forward: Any) -> Any:
            call = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
            return await (refuse(request, forward) if call != "Query" else forward())

        proxy.fault = fault
        through = desk.settings | {"STREAMER_ENDPOINT_URL": proxy.url}
        ended = command("redrive", "--action", "a", "--yes", **through)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.count("error:") == 1
    assert "Traceback" not in ended.stderr
