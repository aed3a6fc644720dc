"""What operators do at a terminal: look, follow, run again, reap, check."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
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
from streamer_store.engine import Put
from streamer_store.schema import REQUESTS
from streamer_worker.cli.main import cli

__all__ = ["desk"]


def test_requests_are_listed_the_newest_first(desk: Desk) -> None:
    """Over all statuses, up to a limit."""
    desk.enqueue("failed", ago=30)
    desk.fail("failed")
    desk.enqueue("old", ago=20)
    desk.enqueue("new", ago=10)
    assert desk.ids() == ["new", "old", "failed"]
    assert desk.ids("--limit", "2") == ["new", "old"]
    assert desk.ids("--status", "FAILED", "--status", "COMPLETED") == ["failed"]


def test_requests_are_chosen_by_action_tenant_and_time(desk: Desk) -> None:
    """All of what is given must hold; times are in UTC unless they say otherwise."""
    desk.enqueue("1", ago=7200, tenant_id="t1")
    desk.enqueue("2", ago=60, tenant_id="t1", action="b")
    desk.enqueue("3", ago=60, tenant_id="t2")
    assert desk.ids("--tenant", "t1") == ["2", "1"]
    assert desk.ids("--action", "b") == ["2"]
    assert desk.ids("--since", "1h", "--tenant", "t2") == ["3"]
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    assert sorted(desk.ids("--since", f"{hour_ago:%Y-%m-%dT%H:%M:%S}")) == ["2", "3"]
    assert desk.ids("--since", "2001-02-03", "--action", "nothing") == []
    assert desk.run("list", "--action", "nothing").stdout == "no matching requests\n"


def test_a_time_is_a_moment_whatever_offset_a_producer_writes(desk: Desk) -> None:
    """Text of New York sorts before text of London that is an hour older."""
    now = datetime.now(UTC).replace(microsecond=0)
    west, east = (timezone(timedelta(hours=hours)) for hours in (-5, 9))
    texts = {
        "west": (now - timedelta(minutes=10)).astimezone(west).isoformat(),
        "east": (now - timedelta(hours=3)).astimezone(east).isoformat(),
    }
    for request_id, text in texts.items():
        put = Put(
            table=REQUESTS,
            item={
                "RequestID": {"S": request_id},
                "Action": {"S": "a"},
                "Status": {"S": "FAILED"},
                "CreatedAt": {"S": text},
            },
        )
        desk.do(partial(_put, put))
    assert desk.ids() == ["west", "east"]
    assert desk.ids("--since", "1h") == ["west"]
    assert desk.json("redrive", "--action", "a", "--since", "1h")["redriven"] == ["west"]


async def _put(put: Put, stores: Stores) -> None:
    await stores.engine.put(put)


def test_a_list_is_a_table_without_control_characters(desk: Desk) -> None:
    """What went wrong is there in short; ids can be copied whole."""
    desk.enqueue("x" * 50, tenant_id="t1")
    desk.fail("x" * 50)
    said = desk.run("list").stdout
    assert "x" * 50 in said
    assert "FAILED" in said
    assert "BROKEN" in said
    assert "\x1b" not in said


def test_a_list_as_json_leaves_out_what_is_large(desk: Desk) -> None:
    """Payloads may be secrets, too."""
    desk.enqueue("1", payload={"secret": "s3cret"})
    assert "s3cret" not in desk.run("list", "--json").stdout
    assert desk.json("show", "1")["payload"] == {"secret": "s3cret"}


@pytest.mark.parametrize("since", ["soon", "25:00", "-1h"])
def test_a_time_that_is_none_is_refused(since: str, desk: Desk) -> None:
    """With exit code 2, as all that is wrong with a call."""
    ended = desk.run("list", "--since", since, code=2)
    assert "neither a duration (90m" in ended.stderr


def test_watching_follows_a_request_to_its_end(desk: Desk, tmp_path: Any) -> None:
    """Where nobody sees a bar, a line for each change; 0 when it has COMPLETED."""
    path = plugin(tmp_path, "steps", HANDLER, 'steps = "steps:steps"')
    more = {"PYTHONPATH": str(path), "STREAMER_HTTP_PORT": "0"}
    with Process("run", **(desk.settings | more)) as worker:
        worker.event("worker_started")
        go_on = tmp_path / "go-on"
        desk.enqueue("r", action="steps", payload={"until": str(go_on)})
        with Process("watch", "r", "--every", "0.1", **desk.settings) as watch:
            assert watch.found("^PROCESSING 25% step 1$")
            go_on.touch()
            assert watch.ended() == 0
        assert watch.lines[-1].startswith("COMPLETED 100%")
        desk.enqueue("r2", action="steps")
        said = command("watch", "r2", "--json", **desk.settings)
        changes = [json.loads(line) for line in said.stdout.splitlines()]
        assert changes[-1]["status"] == "COMPLETED"


def test_watching_what_failed_exits_with_1(desk: Desk) -> None:
    """And says why."""
    desk.enqueue("1")
    desk.fail("1")
    assert "FAILED 0% BROKEN: it broke" in desk.run("watch", "1", code=1).stdout
    desk.enqueue("2")
    desk.run("cancel", "2")
    assert desk.run("watch", "2", code=1).stdout.startswith("CANCELLED")


@pytest.mark.parametrize("name", ["show", "watch", "cancel", "redrive", "drain"])
def test_what_does_not_exist_is_told(name: str, desk: Desk) -> None:
    """In one line, with the id, and exit code 1."""
    ended = command(name, "nobody", **desk.settings)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.count("\n") == 1
    assert "nobody" in ended.stderr


def status(desk: Desk, request_id: str) -> str:
    return str(desk.json("show", request_id)["status"])


def test_one_request_is_redriven(desk: Desk) -> None:
    """What failed waits again; what waits is refused."""
    desk.enqueue("1")
    desk.fail("1")
    assert desk.run("redrive", "1").stdout == "1 is PENDING again\n"
    assert status(desk, "1") == "PENDING"
    ended = command("redrive", "1", **desk.settings)
    assert ended.returncode == 1
    assert "PENDING" in ended.stderr


def test_many_requests_are_redriven(desk: Desk) -> None:
    """Failed ones of an action, since a time; cancelled ones where asked for."""
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
    statuses = {each: status(desk, each) for each in ("1", "2", "old", "other", "gone")}
    assert statuses == {
        "1": "PENDING",
        "2": "PENDING",
        "old": "FAILED",
        "other": "FAILED",
        "gone": "CANCELLED",
    }
    found = desk.json("redrive", "--since", "1h", "--cancelled", "--limit", "1")
    assert found == {"dry_run": False, "redriven": ["other"], "skipped": []}
    assert desk.json("redrive", "--action", "a", "--cancelled", "-y")["redriven"] == ["old", "gone"]


@pytest.mark.parametrize(
    "arguments",
    [(), ("--dry-run",), ("r1", "--dry-run"), ("r1", "--action", "a"), ("--limit", "9")],
)
def test_a_redrive_says_what_it_means(arguments: tuple[str, ...], desk: Desk) -> None:
    """Neither everything by accident, nor an id with a choice that would not count."""
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
    """Add six connections; the first two have been silent for three hours."""
    now = datetime.now(UTC)

    async def work(stores: Stores) -> None:
        for number in range(6):
            heard = now - timedelta(hours=3 if number < 2 else 0)
            await stores.connections.save(connection(number, last_ping=heard))

    desk.do(work)
    return desk


def test_connections_are_listed(connected: Desk) -> None:
    """All, or a user's or a tenant's, or those of both."""

    def listed(*arguments: str) -> list[str]:
        found = connected.json("connections", "list", *arguments)
        return sorted(each["connection_id"] for each in found)

    assert listed() == ["c0", "c1", "c2", "c3", "c4", "c5"]
    assert listed("--user", "u1") == ["c1", "c3", "c5"]
    assert listed("--tenant", "t0") == ["c0", "c3"]
    assert listed("--user", "u1", "--tenant", "t0") == ["c3"]
    assert len(listed("--limit", "4")) == 4
    said = connected.run("connections", "list", "--user", "u0").stdout
    assert "execute-api" in said
    assert connected.run("connections", "list", "--user", "x").stdout == "no matching connections\n"


def test_silent_connections_are_reaped(connected: Desk) -> None:
    """First counted, then removed; how long is silent can be said."""
    dry = connected.json("connections", "reap", "--dry-run")
    assert (dry["dry_run"], dry["found"], dry["deleted"]) == (True, 2, 0)
    longer = connected.run("connections", "reap", "--stale-after", "5h", "--dry-run")
    assert longer.stdout == "would delete 0 stale connections\n"
    assert connected.run("connections", "reap", "--yes").stdout == "deleted 2 connections\n"
    assert len(connected.json("connections", "list")) == 4
    connected.run("connections", "reap", "--stale-after", "long", code=2)


def test_a_worker_is_ordered_to_drain(desk: Desk) -> None:
    """The order stands in its row."""
    row = WorkerRow(worker_id="w1", started_at=datetime.now(UTC), concurrency=4)
    desk.do(lambda stores: stores.workers.register(row))
    assert desk.json("drain", "w1") == {"worker_id": "w1", "drain_requested": True}
    (found,) = desk.json("workers")
    assert (found["worker_id"], found["drain"]) == ("w1", True)
    assert "draining" in desk.run("workers").stdout


def test_cancelling_tells_json(desk: Desk) -> None:
    """For scripts."""
    desk.enqueue("1")
    said = desk.json("cancel", "1")
    assert said == {"request_id": "1", "status": "CANCELLED", "connections_notified": 0}


@pytest.mark.parametrize(
    "name",
    [
        *("list", "show", "watch", "cancel", "redrive", "workers", "drain", "check", "config"),
        *("connections list", "connections reap", "handlers", "enqueue"),
    ],
)
def test_help_has_an_example_and_json(name: str) -> None:
    """Of every command for operators."""
    said = CliRunner().invoke(cli, [*name.split(), "--help"], env={"COLUMNS": "200"}).output
    assert "Example" in said
    assert f"streamer-worker {name}" in said
    assert "--json" in said


def test_silence_is_judged_as_the_setting_is(connected: Desk) -> None:
    """A second would remove all who live, and nothing must not mean the default."""
    for text in ("1s", "0s", "-5h", "nan", "inf", "400d"):
        connected.run("connections", "reap", "--stale-after", text, code=2)
    assert len(connected.json("connections", "list")) == 6


@pytest.mark.parametrize("since", ["99999999999d", "800000d", "0001-01-01T00:00:00+23:00"])
def test_a_time_before_all_times_is_refused_or_finds_all(since: str, desk: Desk) -> None:
    """Not a traceback."""
    desk.enqueue("1")
    ended = command("list", "--since", since, "--json", **desk.settings)
    assert ended.returncode == 2 or json.loads(ended.stdout)
    assert "Traceback" not in ended.stderr


def test_a_table_that_goes_away_under_a_redrive_is_told_in_a_line(desk: Desk) -> None:
    """Though ten of them fail at once."""
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
