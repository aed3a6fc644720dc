"""Commands and workers on four tables that have no prefix in common."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from integration.deployments import NAME, deployment, make, names_of
from integration.desk import HANDLER, Desk
from integration.fast import FAST, ended
from integration.gateway import Server, connect, subscribe
from plugins import plugin
from processes import Process, command
from streamer_store import (
    AsyncRequest,
    InvalidInput,
    Stores,
    TableNames,
    open_stores,
    open_stores_sync,
)
from streamer_store.dynamo import backups, protection, restoring, tables
from streamer_store.schema import REQUESTS, TABLES
from support import client_of, unique_prefix, unrelated_names

pytestmark = pytest.mark.anyio


def variables(names: dict[str, str]) -> dict[str, str]:
    """Return the environment variables that give tables these names."""
    return {f"STREAMER_TABLE_NAMES_{table.upper()}": name for table, name in names.items()}


@pytest.fixture
def names() -> dict[str, str]:
    return unrelated_names()


@pytest.fixture
def named(moto_url: str, names: dict[str, str]) -> Desk:
    """Give a desk without tables, whose settings have a name for each."""
    desk = Desk(moto_url)
    desk.settings |= variables(names)
    return desk


def test_tables_of_any_names_are_created_and_checked(named: Desk, names: dict[str, str]) -> None:
    """Each message has the whole name."""
    missing = named.json("tables", "check", code=1)["differences"]
    assert [each["table"] for each in missing] == list(names.values())
    findings = named.json("status", code=1)["findings"]
    assert f"tables are missing: {', '.join(names.values())}" in findings[0]["text"]
    created = named.run("tables", "create").stdout
    assert created == f"created {', '.join(names.values())}\ntables are ready\n"
    checked = named.json("tables", "check")
    assert checked["differences"] == []
    assert [each["table"] for each in checked["protection"]] == list(names.values())


def test_commands_say_which_tables_they_use(named: Desk, names: dict[str, str]) -> None:
    """They have no prefix to be called by. `config` says where each name is from."""
    del named.settings["STREAMER_TABLE_NAMES_WORKERS"]
    named.run("tables", "create")
    named.run("enqueue", "a", "--payload", '{"n": 1}')
    assert len(named.ids()) == 1
    listed = ", ".join(
        [*list(names.values())[:3], f"{named.settings['STREAMER_TABLE_PREFIX']}workers"]
    )
    assert f"tables {listed}" in named.json("check", code=1)[0]["text"]
    target = named.json("status", code=1)["target"]
    assert target["prefix"] is None
    assert target["tables"]["requests"] == names["requests"]
    settings = named.json("config")
    assert settings["table_names.requests"] == {"value": names["requests"], "from": "environment"}
    assert settings["table_names.workers"]["from"] == "table_prefix"
    assert settings["table_names.workers"]["value"].endswith("_workers")


def test_one_name_for_two_tables_is_refused(named: Desk) -> None:
    """The exit code is that of wrong settings, and nothing is created."""
    refused = named.settings | {"STREAMER_TABLE_NAMES_WORKERS": "jobs"}
    refused["STREAMER_TABLE_NAMES_REQUESTS"] = "jobs"
    result = command("tables", "create", **refused)
    assert (result.returncode, result.stdout) == (2, "")
    assert "requests and workers have one name, jobs: give each a name of its own" in result.stderr


def test_an_export_has_the_items_of_such_tables(named: Desk, moto_url: str, tmp_path: Path) -> None:
    """They are imported into tables with a prefix, and back."""
    named.run("tables", "create")
    named.run("enqueue", "a", "--payload", '{"n": 1}')
    output = named.run("export", str(tmp_path / "e")).output
    assert "exported 0 connections, 1 requests, 0 subscriptions, 0 workers" in output
    other = Desk(moto_url)
    other.run("tables", "create")
    other.run("import", str(tmp_path / "e"))
    assert other.ids() == named.ids()
    assert "1 unchanged" in named.run("import", str(tmp_path / "e"), "--yes").output


def test_a_backup_of_such_tables_is_restored_under_a_prefix(
    named: Desk, names: dict[str, str]
) -> None:
    """The restored tables have the prefix, and are used without the names."""
    listed = ", ".join(names.values())
    named.run("tables", "create")
    named.run("enqueue", "a", "--payload", '{"n": 1}')
    assert named.run("backup", "list").stdout == f"no backups of tables {listed}\n"
    assert named.run("backup", "create", NAME).stdout.startswith("nightly: backed up 4 tables")
    to = unique_prefix()
    restored = named.run("backup", "restore", NAME, "--to", to).stdout
    assert f"restored 4 tables as {to}…" in restored
    other = Desk(named.settings["STREAMER_ENDPOINT_URL"])
    other.settings["STREAMER_TABLE_PREFIX"] = to
    assert other.ids() == named.ids()
    assert other.run("backup", "list").stdout == f"no backups of tables {to}…\n"
    assert named.run("backup", "delete", NAME, "--yes").stdout == "deleted 4 backups nightly\n"


async def test_a_restore_refuses_a_prefix_that_names_a_table_of_the_backup(moto_url: str) -> None:
    """One table is enough. The tables are protected under their names."""
    prefix = unique_prefix()
    some = unrelated_names() | {"workers": f"{prefix}workers"}
    async with deployment(moto_url, table_names=some) as here:
        await make(here)
        assert await names_of(here) == [NAME]
        assert await protection.enable(here.calls, here.tables) == list(some.values())
        with pytest.raises(InvalidInput, match=f"{prefix}workers is a table .* give another"):
            await restoring.restore(here.calls, here.tables, NAME, to=prefix)
        to = unique_prefix()
        await restoring.restore(here.calls, here.tables, NAME, to=to)
        assert await here.items(to) == await here.items()
        assert await tables.check(here.calls, TableNames.from_prefix(to)) == []
        backup = await backups.get(here.calls, here.tables, NAME)
        assert await backups.delete(here.calls, backup) == 4


@pytest.fixture
async def live(
    local_url: str, names: dict[str, str], tmp_path: Path
) -> AsyncIterator[tuple[Stores, dict[str, str]]]:
    """Give stores for Go's readers on DynamoDB Local, and the settings of a worker on them."""
    settings = FAST | variables(names) | {"STREAMER_ENDPOINT_URL": local_url}
    create = partial(command, "tables", "create", "--full-projection", **settings)
    created = await anyio.to_thread.run_sync(create)
    assert created.returncode == 0
    assert created.stdout.startswith(f"created {', '.join(names.values())}\n")
    assert created.stdout.count("every progress write also writes to the index") == 2
    path = plugin(tmp_path, "steps", HANDLER, "steps = steps:steps")
    async with open_stores(endpoint_url=local_url, table_names=names) as stores:
        yield (
            stores,
            settings
            | {
                "PYTHONPATH": str(path),
                "STREAMER_HTTP_PORT": "0",
                "STREAMER_HTTP_HOST": "127.0.0.1",
            },
        )
        for table in TABLES:
            await client_of(stores.engine).delete_table(TableName=stores.engine.table_name(table))


@pytest.mark.local
async def test_a_worker_runs_requests_and_pushes_on_such_tables(
    live: tuple[Stores, dict[str, str]], names: dict[str, str], server: Server
) -> None:
    """`worker_started` has the names, and each table is used: also the connection's row is read."""
    stores, settings = live
    await connect(stores, server, "ok-own", "ok-other", "gone-1")
    await subscribe(stores, "r1", "ok-other", "gone-1")
    settings |= {"STREAMER_NOTIFIER_HOSTS": server.host, "STREAMER_REGION": "us-east-1"}
    with Process("run", **settings) as worker:
        started = worker.event("worker_started")
        assert started["table_names"] == list(names.values())
        assert "table_prefix" not in started
        await stores.requests.enqueue(
            AsyncRequest(action="steps", request_id="r1", connection_id="ok-own")
        )
        (done,) = await ended(stores, "r1")
        assert done.status == "COMPLETED"
        await server.until("ok-own", "complete")
        await server.until("ok-other", "complete")
        worker.event("connection_gone", connection_id="gone-1", subscriptions=1)
        (row,) = await stores.workers.list()
        assert row.pid == worker.pid
        watched = await anyio.to_thread.run_sync(partial(command, "status", "--json", **settings))
        assert json.loads(watched.stdout)["target"]["tables"] == names
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
    assert await stores.workers.list() == []


@pytest.mark.local
async def test_go_readers_find_whole_requests_in_the_indexes(
    live: tuple[Stores, dict[str, str]], names: dict[str, str]
) -> None:
    """They read the index alone. A worker's poller works on indexes that have all attributes.

    `tables check` warns of the cost, and does not fail.
    """
    stores, settings = live
    await stores.requests.enqueue_many(
        AsyncRequest(
            action="steps", request_id=f"r{number}", connection_id="c1", payload={"n": number}
        )
        for number in range(3)
    )
    with Process("run", **settings) as worker:
        await ended(stores, "r0", "r1", "r2")
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
    client: Any = client_of(stores.engine)
    for index, key, value in (
        ("ConnectionIndex", "ConnectionID", "c1"),
        ("StatusIndex", "Status", "COMPLETED"),
    ):
        answer = await client.query(
            TableName=names["requests"],
            IndexName=index,
            KeyConditionExpression="#key = :value",
            ExpressionAttributeNames={"#key": key},
            ExpressionAttributeValues={":value": {"S": value}},
        )
        by_id = {item["RequestID"]["S"]: item["Payload"] for item in answer["Items"]}
        assert by_id == {f"r{number}": {"M": {"n": {"N": str(number)}}} for number in range(3)}
    checked = await anyio.to_thread.run_sync(partial(command, "tables", "check", **settings))
    assert checked.returncode == 0
    assert checked.stdout.count("projection is ALL") == 2


def test_full_projection_says_which_indexes_it_cannot_change(moto_url: str) -> None:
    """The tables exist. So readers of the index alone would get no payload, and no error."""
    desk = Desk(moto_url)
    desk.run("tables", "create")
    name = f"{desk.settings['STREAMER_TABLE_PREFIX']}requests"
    output = desk.run("tables", "create", "--full-projection").stdout
    assert output.startswith(f"not changed: ConnectionIndex of {name}, StatusIndex of {name}. A ")
    assert output.endswith("tables are ready\n")


def test_synchronous_producers_read_the_variables(
    local_url: str, names: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `open_stores` does. `Stores.target` has the names."""
    for variable, name in variables(names).items():
        monkeypatch.setenv(variable, name)
    with open_stores_sync(endpoint_url=local_url) as stores:
        stores.create_tables()
        stores.requests.enqueue(AsyncRequest(action="a", request_id="r1"))
        assert stores.requests.get("r1").action == "a"
        assert stores.target is not None
        assert stores.target.tables.as_dict() == names
        assert stores.target.tables.of(REQUESTS) == names["requests"]
