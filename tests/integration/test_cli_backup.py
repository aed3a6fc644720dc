"""`backup`, `tables create --protect` and what `tables check` says about protection."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

from contract.table_changes import with_projection, without_due_index
from integration.deployments import Denying, fill
from integration.desk import Desk, desk
from integration.proxy import (
    Forward,
    Proxy,
    answering,
    json_body,
    operation_of,
    passing,
    proxy_to,
    with_body,
)
from processes import Process, command
from streamer_store import Stores
from streamer_store.schema import TABLES
from support import client_of, unique_prefix

__all__ = ["desk"]
ON = "point-in-time recovery: on, 35 days; deletion protection: on"
OFF = "point-in-time recovery: off; deletion protection: off"
READY = "tables have the keys and indexes that the worker needs"


@pytest.fixture
def filled(desk: Desk) -> Desk:
    """Add an item or more to each table."""
    desk.do(fill)
    return desk


@pytest.fixture
def proxied(filled: Desk) -> Iterator[tuple[Desk, Proxy]]:
    """Put a proxy between the commands and moto."""
    with proxy_to(filled.settings["STREAMER_ENDPOINT_URL"]) as proxy:
        filled.settings["STREAMER_ENDPOINT_URL"] = proxy.url
        yield filled, proxy


def names(prefix: str) -> list[str]:
    return [prefix + table.name for table in TABLES]


def test_a_backup_from_its_creation_to_its_end(filled: Desk) -> None:
    """Created, listed, restored under another prefix, used there, and deleted, as processes."""
    prefix = filled.settings["STREAMER_TABLE_PREFIX"]
    assert (
        command("backup", "list", **filled.settings).stdout == f"no backups of tables {prefix}…\n"
    )

    created = command("backup", "create", "nightly", **filled.settings)
    assert created.returncode == 0
    assert created.stdout.startswith("nightly: backed up 4 tables, 492 bytes, as of 20")
    assert created.stderr.splitlines() == [f"{name}: AVAILABLE" for name in names(prefix)]

    header, row = command("backup", "list", **filled.settings).stdout.splitlines()
    assert header.split() == ["backup", "created", "(UTC)", "tables", "size", "status"]
    assert row.split()[0] == "nightly"
    assert row.split()[-4:] == ["4/4", "492", "bytes", "AVAILABLE"]

    to = unique_prefix()
    restored = command("backup", "restore", "nightly", "--to", to, **filled.settings)
    assert restored.returncode == 0
    assert restored.stdout.startswith(f"restored 4 tables as {to}…, as of 20")
    assert {f"{name}: ACTIVE" for name in names(to)} == set(restored.stderr.splitlines())
    there = filled.settings | {"STREAMER_TABLE_PREFIX": to}
    assert command("tables", "check", **there).stdout.splitlines() == [OFF, READY]
    listed = json.loads(command("list", "--json", **there).stdout)
    assert {request["request_id"] for request in listed} == {"r0", "r1", "r2"}

    deleted = command("backup", "delete", "nightly", "--yes", **filled.settings)
    assert (deleted.returncode, deleted.stdout) == (0, "deleted 4 backups nightly\n")
    again = command("backup", "delete", "nightly", "--yes", **filled.settings)
    assert again.returncode == 1
    assert again.stderr.startswith(f"error: there is no backup nightly of tables {prefix}…")


def test_json(filled: Desk) -> None:
    """Each command prints it. Times are UTC, sizes are bytes."""
    prefix = filled.settings["STREAMER_TABLE_PREFIX"]
    created = filled.json("backup", "create", "nightly")
    assert created["status"] == "AVAILABLE"
    assert [part["table"] for part in created["tables"]] == names(prefix)
    assert created["first"] <= created["last"]
    assert created["first"].endswith("Z")
    assert created["size"] == 492
    assert filled.json("backup", "list") == [created]
    to = unique_prefix()
    restored = filled.json("backup", "restore", "nightly", "--to", to, "--protect")
    assert restored == {
        "backup": created,
        "prefix": to,
        "begun": names(to),
        "protected": names(to),
        "differences": [],
    }
    assert filled.json("backup", "delete", "nightly", "--yes") == {"name": "nightly", "deleted": 4}


def test_incomplete_and_repeated_backups_are_listed(filled: Desk) -> None:
    """With the tables that are missing, and the number of older ones."""
    first, *rest = names(filled.settings["STREAMER_TABLE_PREFIX"])

    async def work(stores: Stores) -> None:
        for _ in range(2):
            await client_of(stores.engine).create_backup(TableName=first, BackupName="half")

    filled.do(work)
    output = " ".join(filled.run("backup", "list").stdout.split())
    assert " 1/4 123 bytes INCOMPLETE: lacks " in output
    assert output.endswith("and 1 older of the same name")
    (listed,) = filled.json("backup", "list")
    assert (listed["status"], listed["missing"], len(listed["older"])) == ("INCOMPLETE", rest, 1)


def test_delete_asks(filled: Desk) -> None:
    """`n` and no terminal delete nothing. `y` deletes."""
    filled.run("backup", "create", "nightly")
    arguments = ("backup", "delete", "nightly")
    without = command(*arguments, **filled.settings)
    assert (without.returncode, without.stdout) == (2, "")
    assert "Delete 4 backups nightly of 20" in without.stderr
    assert "give --yes to delete them" in without.stderr
    refused = filled.answered("n\n", *arguments)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert len(filled.json("backup", "list")) == 1
    assert filled.answered("y\n", *arguments).returncode == 0
    assert filled.json("backup", "list") == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("create", "ab"), "3 to 255 characters"),
        (("create", "a/b/c"), "3 to 255 characters"),
        (("delete", "abc\x1b[31m"), "3 to 255 characters"),
        (("restore", "nightly", "--to", "a b"), "200 characters"),
        (("restore", "nightly", "--to", ""), "200 characters"),
        (("restore", "nightly"), "--to"),
        (("create", "nightly", "--timeout", "soon"), "no duration"),
        (("create", "nightly", "--timeout", "0s"), "no duration"),
    ],
)
def test_wrong_arguments_are_refused(arguments: tuple[str, ...], text: str, desk: Desk) -> None:
    """The exit code is 2, and nothing is called."""
    result = desk.run("backup", *arguments, code=2)
    assert text in result.stderr
    assert desk.json("backup", "list") == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("delete", "absent", "--yes"), "there is no backup absent"),
        (("restore", "absent", "--to", "x_"), "there is no backup absent"),
        (("restore", "nightly", "--to", "{prefix}"), "give another one"),
    ],
)
def test_refusals_are_one_line(arguments: tuple[str, ...], text: str, filled: Desk) -> None:
    """The exit code is 1, and there is no traceback."""
    filled.run("backup", "create", "nightly")
    prefix = filled.settings["STREAMER_TABLE_PREFIX"]
    filled_in = [argument.format(prefix=prefix) for argument in arguments]
    ended = command("backup", *filled_in, **filled.settings)
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ")
    assert text in line


def test_a_restore_prints_differences(filled: Desk) -> None:
    """The exit code is 1 if a worker cannot work with the restored tables."""
    prefix = filled.settings["STREAMER_TABLE_PREFIX"]

    async def work(stores: Stores) -> None:
        keys = {"ProjectionType": "KEYS_ONLY"}
        client = client_of(stores.engine)
        await with_projection(client, f"{prefix}connections", "UserIndex", keys)

    filled.do(work)
    filled.run("backup", "create", "nightly")
    to = unique_prefix()
    result = filled.run("backup", "restore", "nightly", "--to", to, code=1)
    (line,) = result.stdout.splitlines()
    assert line.startswith(f"error: table {to}connections: index UserIndex: projection is KEYS")
    restored = filled.json("backup", "restore", "nightly", "--to", to, code=1)
    assert [difference["blocking"] for difference in restored["differences"]] == [True]


async def creating(request: web.Request, forward: Forward) -> web.StreamResponse:
    """Show restored tables as CREATING."""
    answer = await forward()
    if operation_of(request) != "DescribeTable" or answer.status != 200:
        return answer
    body = json_body(answer)
    if "RestoreSummary" in body["Table"]:
        body["Table"]["TableStatus"] = "CREATING"
    return with_body(answer, body)


def test_a_restore_can_be_interrupted_and_continued(proxied: tuple[Desk, Proxy]) -> None:
    """DynamoDB goes on meanwhile. The same command continues, also after its timeout."""
    desk, proxy = proxied
    desk.run("backup", "create", "nightly")
    proxy.fault = creating
    to = unique_prefix()
    restore = ("backup", "restore", "nightly", "--to", to)
    with Process(*restore, **desk.settings) as process:
        process.seen(": CREATING", 4)
        process.signal(signal.SIGINT)
        process.found("interrupted: DynamoDB continues. Run the same command again to go on")
        assert process.ended() == 130
        assert not any("Traceback" in line for line in process.lines)
    late = command(*restore, "--timeout", "100ms", **desk.settings)
    assert late.returncode == 1
    last = late.stderr.splitlines()[-1]
    assert last.startswith(f"error: tables {to}… are not restored after 0.1 s. DynamoDB continues")
    proxy.fault = passing
    assert desk.run(*restore).stdout.startswith("an earlier run has restored 4 tables")
    assert proxy.calls["RestoreTableFromBackup"] == 4


def test_tables_are_protected(moto_url: str) -> None:
    """`tables create --protect` protects new tables and existing ones, and says so."""
    desk = Desk(moto_url)
    listed = ", ".join(names(desk.settings["STREAMER_TABLE_PREFIX"]))
    protected = f"point-in-time recovery and deletion protection are on: {listed}"
    for created in ([f"created {listed}"], []):
        lines = command("tables", "create", "--protect", **desk.settings).stdout.splitlines()
        assert lines == [*created, protected, "tables are ready"]
    assert command("tables", "check", **desk.settings).stdout.splitlines() == [ON, READY]
    checked = desk.json("tables", "check")
    assert checked["differences"] == []
    assert [each["recovery_days"] for each in checked["protection"]] == [35] * 4
    assert all(each["deletion_protection"] for each in checked["protection"])


def test_a_restore_can_protect(filled: Desk) -> None:
    """Neither is restored by DynamoDB."""
    filled.run("tables", "create", "--protect")
    filled.run("backup", "create", "nightly")
    for option, expected in (((), OFF), (("--protect",), ON)):
        to = unique_prefix()
        filled.run("backup", "restore", "nightly", "--to", to, *option)
        there = filled.settings | {"STREAMER_TABLE_PREFIX": to}
        assert command("tables", "check", **there).stdout.splitlines() == [expected, READY]


def test_tables_that_are_protected_differently_have_a_line_each(desk: Desk) -> None:
    """With the name of the table."""
    first, *rest = names(desk.settings["STREAMER_TABLE_PREFIX"])

    async def work(stores: Stores) -> None:
        await client_of(stores.engine).update_table(TableName=first, DeletionProtectionEnabled=True)

    desk.do(work)
    lines = desk.run("tables", "check").stdout.splitlines()
    assert lines == [
        f"table {first}: {OFF.removesuffix('off')}on",
        *(f"table {name}: {OFF}" for name in rest),
        READY,
    ]


def test_recovery_that_is_not_known_is_no_fault(proxied: tuple[Desk, Proxy]) -> None:
    """A worker's policy does not allow to read it. The exit code is 0."""
    desk, proxy = proxied
    denied = answering(400, "AccessDeniedException")
    proxy.fault = Denying(denied, "DescribeContinuousBackups")
    line, ready = desk.run("tables", "check").stdout.splitlines()
    assert line.startswith("point-in-time recovery: not known: AccessDeniedException")
    assert ready == READY
    (known, *_) = desk.json("tables", "check")["protection"]
    assert known["point_in_time_recovery"] is None


def test_create_says_what_it_enabled(desk: Desk) -> None:
    """TTL on a table that existed without it."""
    name = desk.settings["STREAMER_TABLE_PREFIX"] + "workers"

    async def work(stores: Stores) -> None:
        client: Any = client_of(stores.engine)
        off = {"Enabled": False, "AttributeName": "TTL"}
        await client.update_time_to_live(TableName=name, TimeToLiveSpecification=off)

    desk.do(work)
    off = f"warning: table {name}: TTL on attribute TTL is DISABLED: old items are not deleted"
    assert off in desk.run("tables", "check").stdout.splitlines()
    lines = desk.run("tables", "create").stdout.splitlines()
    assert lines == [f"enabled TTL on {name}", "tables are ready"]


def test_create_says_which_index_it_added(desk: Desk) -> None:
    """To a table of an earlier release."""
    name = desk.settings["STREAMER_TABLE_PREFIX"] + "requests"

    async def work(stores: Stores) -> None:
        client: Any = client_of(stores.engine)
        await without_due_index(client, name)
        on = {"Enabled": True, "AttributeName": "TTL"}
        await client.update_time_to_live(TableName=name, TimeToLiveSpecification=on)

    desk.do(work)
    lines = desk.run("tables", "create").stdout.splitlines()
    assert lines == [f"added DueIndex to {name}", "tables are ready"]


@pytest.mark.local
@pytest.mark.parametrize(
    "arguments",
    [("list",), ("create", "nightly"), ("delete", "nightly"), ("restore", "nightly", "--to", "x_")],
)
def test_dynamodb_local_has_no_backups(arguments: tuple[str, ...], local_url: str) -> None:
    """The error is one line."""
    settings = {"STREAMER_ENDPOINT_URL": local_url, "STREAMER_TABLE_PREFIX": unique_prefix()}
    assert command("tables", "create", **settings).returncode == 0
    ended = command("backup", *arguments, **settings)
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert "DynamoDB Local has no backups" in line
