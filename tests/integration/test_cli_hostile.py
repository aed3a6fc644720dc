"""Commands on tables that hold forged lines and very long texts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from integration.desk import Desk, desk
from streamer_store import Connection, Stores, WorkerRow
from streamer_store.engine import Put
from streamer_store.schema import REQUESTS
from streamer_store.times import format_time

__all__ = ["desk"]

FORGED = "a\nforged\r\x1b[2K\x9b1A\u2028\u202etext"
LONG = "x" * 100_000


async def fill(stores: Stores) -> None:
    """Write a request, a connection and a worker with hostile texts, and one plain request."""
    now = datetime.now(UTC)
    for request_id, action in (("r1", FORGED), ("r2\nforged", LONG), ("r3", "plain")):
        item: dict[str, Any] = {
            "RequestID": {"S": request_id},
            "Status": {"S": "FAILED"},
            "CreatedAt": {"S": format_time(now)},
            "Action": {"S": action},
            "TenantID": {"S": FORGED},
            "Error": {"S": FORGED + LONG},
            "ErrorCode": {"S": FORGED},
            "ProgressMessage": {"S": FORGED},
        }
        await stores.engine.put(Put(table=REQUESTS, item=item))
    await stores.connections.save(
        Connection(
            connection_id="c1\nforged",
            user_id=FORGED,
            tenant_id=FORGED,
            endpoint=FORGED + LONG,
            connected_at=now,
        )
    )
    await stores.workers.register(
        WorkerRow(
            worker_id="w1\nforged",
            started_at=now,
            concurrency=4,
            host=FORGED,
            release=FORGED,
            actions=frozenset({FORGED, LONG}),
        )
    )


@pytest.fixture
def hostile(desk: Desk) -> Desk:
    desk.do(fill)
    return desk


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("list",), 0),
        (("list", "--json"), 0),
        (("show", "r1"), 0),
        (("show", "r1", "--json"), 0),
        (("watch", "r1"), 1),
        (("watch", "r1", "--json"), 1),
        (("workers",), 0),
        (("workers", "--json"), 0),
        (("connections", "list"), 0),
        (("connections", "list", "--json"), 0),
        (("redrive", "--since", "1h", "--dry-run"), 0),
        (("redrive", "r2\nforged"), 0),
        (("redrive", "--since", "1h", "--json", "--yes"), 0),
        (("tables", "check"), 0),
        (("check",), 1),
    ],
)
def test_no_line_is_forged(command: tuple[str, ...], code: int, hostile: Desk) -> None:
    """No printed line begins with text of an item, and none has a control character.

    Tabs only separate the columns of a table.
    """
    result = hostile.run(*command, code=code)
    lines = (result.stdout + result.stderr).split("\n")
    for line in lines:
        assert line.replace("\t", "").isprintable()
        assert line.count("\t") in {0, lines[0].count("\t")}
        assert not line.strip().startswith("forged")
    if "--json" not in command:
        assert len(result.stdout) < 40_000


def test_an_id_with_a_line_break_can_be_redriven(hostile: Desk) -> None:
    """The id is escaped in text, and unchanged in JSON."""
    assert "r2\nforged" in hostile.json("redrive", "--since", "1h", "--dry-run")["redriven"]
    result = hostile.run("redrive", "r2\nforged")
    assert result.stdout == "r2\\nforged is PENDING again\n"


def test_an_undecodable_item_is_a_warning_on_stderr(hostile: Desk) -> None:
    """The warning is printed once, with the id escaped. stdout has the other items only."""

    async def spoil(stores: Stores) -> None:
        item: dict[str, Any] = {
            "RequestID": {"S": "odd\nforged"},
            "Status": {"S": "FAILED"},
            "CreatedAt": {"S": format_time(datetime.now(UTC))},
            "Action": {"S": "a"},
            "Payload": {"S": "no map"},
        }
        await stores.engine.put(Put(table=REQUESTS, item=item))

    hostile.do(spoil)
    result = hostile.run("list")
    (line,) = result.stderr.splitlines()
    assert line.startswith("warning: ")
    assert "odd\\nforged" in line
    assert "odd" not in result.stdout
    assert len(hostile.json("list")) == 3
