"""What `tables create`, `tables check`, `check` and `run` report about differing tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

from integration.desk import HANDLER, Desk, desk
from integration.proxy import Forward, json_body, proxy_to, with_body
from plugins import plugin
from processes import Process, command
from streamer_store import Stores
from support import client_of, unique_prefix

__all__ = ["desk"]
REPLICAS = [{"RegionName": "eu-west-1", "ReplicaStatus": "ACTIVE"}]


async def global_tables(request: web.Request, forward: Forward) -> web.StreamResponse:
    """Answer as DynamoDB does for a global table. No emulator has global tables."""
    answer = await forward()
    if not request.headers["X-Amz-Target"].endswith(".DescribeTable") or answer.status != 200:
        return answer
    body = json_body(answer)
    body["Table"]["Replicas"] = REPLICAS
    return with_body(answer, body)


@pytest.fixture
def replicated(desk: Desk, tmp_path: Any) -> Iterator[dict[str, str]]:
    """Yield the settings of a worker, with a handler, whose tables are global."""
    path = plugin(tmp_path, "steps", HANDLER, "steps = steps:steps")
    with proxy_to(desk.settings["STREAMER_ENDPOINT_URL"]) as proxy:
        proxy.fault = global_tables
        yield desk.settings | {
            "STREAMER_ENDPOINT_URL": proxy.url,
            "STREAMER_HTTP_PORT": "0",
            "PYTHONPATH": str(path),
        }


@pytest.fixture
def other_key(desk: Desk) -> Desk:
    """Create a table whose key is that of later releases of the Go store."""
    desk.settings["STREAMER_TABLE_PREFIX"] = prefix = unique_prefix()

    async def work(stores: Stores) -> None:
        client: Any = client_of(stores.engine)
        await client.create_table(
            TableName=f"{prefix}requests",
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[
                {"AttributeName": "PK", "KeyType": "HASH"},
                {"AttributeName": "SK", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[
                {"AttributeName": "PK", "AttributeType": "S"},
                {"AttributeName": "SK", "AttributeType": "S"},
            ],
        )

    desk.do(work)
    return desk


@pytest.mark.parametrize("name", ["tables check", "tables create", "check"])
def test_a_global_table_is_a_warning(name: str, replicated: dict[str, str]) -> None:
    """The worker can run in one Region, so the exit code is 0."""
    result = command(*name.split(), **replicated)
    assert result.returncode == 0
    warnings = [line for line in result.stdout.splitlines() if line.startswith("warning")]
    assert len(warnings) == 4
    assert all("exclusive only inside one Region" in line for line in warnings)
    assert all("eu-west-1" in line for line in warnings)


def test_a_start_warns_of_global_tables(replicated: dict[str, str]) -> None:
    """The worker emits `table_mismatch`, and runs."""
    with Process("run", **replicated) as worker:
        text = worker.event("table_mismatch")["text"]
        assert "exclusive only inside one Region" in text
        worker.event("worker_started")


def test_create_reports_another_key(other_key: Desk) -> None:
    """The missing tables are created, the wrong key is reported, and the exit code is 1."""
    result = other_key.run("tables", "create", code=1)
    assert "tables are ready" not in result.stdout
    of_key = [line for line in result.stdout.splitlines() if ": key is PK (HASH)" in line]
    assert len(of_key) == 1
    assert of_key[0].startswith("error: ")
    assert "expected RequestID (HASH)" in of_key[0]
    assert "a later release of the Go implementation" in of_key[0]
    assert "cannot be changed in place" in of_key[0]


def test_check_suggests_create_for_missing_tables_only(other_key: Desk) -> None:
    """`tables create` cannot fix another key."""
    result = json.loads(other_key.run("check", "--json", code=1).stdout)
    of_tables = [finding for finding in result if finding["subject"] == "tables"]
    todo = {"missing;" in finding["text"]: finding["todo"] for finding in of_tables}
    assert todo == {True: "run `streamer-worker tables create`", False: ""}
    listed = other_key.json("tables", "check", code=1)["differences"]
    assert [difference["creatable"] for difference in listed] == [True, False, True, True]


@pytest.mark.local
def test_what_was_created_is_said_before_protecting_fails(local_url: str) -> None:
    """DynamoDB Local has no point-in-time recovery."""
    prefix = unique_prefix()
    settings = {"STREAMER_ENDPOINT_URL": local_url, "STREAMER_TABLE_PREFIX": prefix}
    ended = command("tables", "create", "--protect", **settings)
    assert ended.returncode == 1
    assert ended.stdout.startswith(f"created {prefix}connections, ")
    assert "has no operation DescribeContinuousBackups" in ended.stderr
