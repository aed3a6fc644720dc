"""The command `list`: selection, order, and what it hides."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta, timezone
from functools import partial

import pytest

from integration.desk import Desk, desk
from streamer_store import Stores
from streamer_store.engine import Put, Update
from streamer_store.schema import REQUESTS

__all__ = ["desk"]


def test_requests_are_listed_newest_first(desk: Desk) -> None:
    """All statuses are listed unless --status selects some. --limit is the maximum."""
    desk.enqueue("failed", ago=30)
    desk.fail("failed")
    desk.enqueue("old", ago=20)
    desk.enqueue("new", ago=10)
    assert desk.ids() == ["new", "old", "failed"]
    assert desk.ids("--limit", "2") == ["new", "old"]
    assert desk.ids("--status", "FAILED", "--status", "COMPLETED") == ["failed"]


def test_requests_are_selected_by_action_tenant_and_time(desk: Desk) -> None:
    """A request must match all options. Times are in UTC by default."""
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


def test_requests_whose_ttl_has_passed_are_hidden(desk: Desk) -> None:
    """DynamoDB deletes them within a few days. They do not count for --limit."""
    for number in range(5):
        desk.enqueue(f"kept {number}", ago=100 + number)
    for number in range(3):
        desk.enqueue(f"expired {number}", ago=10)
        desk.run("cancel", f"expired {number}")
        desk.do(partial(_expire, f"expired {number}"))
    ended = desk.run("list", "--json", "--limit", "4")
    listed = [request["request_id"] for request in json.loads(ended.stdout)]
    assert listed == [f"kept {number}" for number in range(4)]
    assert ended.stderr.startswith("3 requests past their TTL hidden")


async def _expire(request_id: str, stores: Stores) -> None:
    past = {"N": str(int(time.time()) - 60)}
    await stores.engine.update(Update(table=REQUESTS, key=request_id, sets={"TTL": past}))


def test_a_waiting_request_is_listed_although_its_ttl_has_passed(desk: Desk) -> None:
    """A worker still claims it."""
    desk.enqueue("waits", ttl=int(datetime.now(UTC).timestamp()) - 60)
    assert desk.ids() == ["waits"]


def test_an_ended_request_is_kept_for_the_retention_of_the_settings(desk: Desk) -> None:
    """The worker and the operators' commands have the same settings."""
    desk.settings["STREAMER_RETENTION_CANCELLED"] = "30d"
    desk.enqueue("r1", ago=10)
    desk.run("cancel", "r1")
    ttl = desk.do(lambda stores: stores.requests.get("r1")).ttl
    kept = timedelta(seconds=ttl - datetime.now(UTC).timestamp())
    assert timedelta(days=29, hours=23) < kept <= timedelta(days=30)


def test_times_with_different_offsets_are_compared_as_moments(desk: Desk) -> None:
    """New York's text sorts before Tokyo's text, though its moment is later."""
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
    """It has the error in short form, and the whole id."""
    desk.enqueue("x" * 50, tenant_id="t1")
    desk.fail("x" * 50)
    result = desk.run("list").stdout
    assert "x" * 50 in result
    assert "FAILED" in result
    assert "BROKEN" in result
    assert "\x1b" not in result


def test_a_list_as_json_omits_payloads(desk: Desk) -> None:
    """Payloads may be large, and may be secret."""
    desk.enqueue("1", payload={"secret": "s3cret"})
    assert "s3cret" not in desk.run("list", "--json").stdout
    assert desk.json("show", "1")["payload"] == {"secret": "s3cret"}


@pytest.mark.parametrize("since", ["soon", "25:00", "-1h"])
def test_an_invalid_time_is_refused(since: str, desk: Desk) -> None:
    """The exit code is 2."""
    ended = desk.run("list", "--since", since, code=2)
    assert "neither a duration (90m" in ended.stderr
