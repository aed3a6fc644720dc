"""The command `list`: selection, order, and what it hides."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime, timedelta, timezone
from functools import partial

import pytest

from integration.desk import Desk, desk
from streamer_store import NotFound, Priority, Stores
from streamer_store.engine import Put, Update
from streamer_store.schema import REQUESTS
from streamer_worker.cli import listing

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


def test_statuses_may_be_in_lower_case(desk: Desk) -> None:
    """As in `--status failed`. Another word is refused."""
    desk.enqueue("r1")
    desk.fail("r1")
    assert desk.ids("--status", "failed") == ["r1"]
    desk.run("list", "--status", "broken", code=2)


def test_requests_are_selected_by_user_connection_and_time(desk: Desk) -> None:
    """A request must match all options."""
    desk.enqueue("1", ago=7200, user_id="u1", connection_id="c1")
    desk.enqueue("2", ago=60, user_id="u1", connection_id="c2")
    desk.enqueue("3", ago=50, user_id="u2", connection_id="c2")
    desk.run("cancel", "3")
    assert desk.ids("--user", "u1") == ["2", "1"]
    assert desk.ids("--user", "u1", "--limit", "1") == ["2"]
    assert desk.ids("--connection", "c2") == ["3", "2"]
    assert desk.ids("--connection", "c2", "--status", "pending") == ["2"]
    assert desk.ids("--connection", "c2", "--user", "u2") == ["3"]
    assert desk.ids("--until", "1h") == ["1"]
    assert desk.ids("--since", "3h", "--until", "1h", "--user", "u2") == []


def test_requests_are_selected_by_priority(desk: Desk) -> None:
    """Those without one are normal. With --user a request must match both."""
    desk.enqueue("1", ago=60, user_id="u1")
    desk.enqueue("2", ago=50, user_id="u1", priority=Priority.LOW)
    desk.enqueue("3", ago=40, user_id="u2", priority=Priority.LOW)
    desk.enqueue("4", ago=30, priority=Priority.HIGH)
    assert desk.ids("--priority", "low") == ["3", "2"]
    assert desk.ids("--priority", "LOW", "--limit", "1") == ["3"]
    assert desk.ids("--priority", "normal") == ["1"]
    assert desk.ids("--priority", "high") == ["4"]
    assert desk.ids("--priority", "low", "--user", "u1") == ["2"]
    assert desk.ids("--priority", "high", "--user", "u1") == []


def test_the_end_says_how_many_more_there_are(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """On stderr. Beyond some number they are not counted, and a user's never are."""
    desk.enqueue(*(f"r{number}" for number in range(30)), user_id="u1")

    def notes(*arguments: str) -> str:
        return desk.run("list", *arguments).stderr

    assert notes("--limit", "10") == "... and 20 more (--all)\n"
    assert notes("--limit", "30") == ""
    assert notes("--all") == ""
    assert len(desk.ids("--all", "--limit", "1")) == 30
    assert notes("--limit", "10", "--user", "u1") == "... and perhaps more (--all)\n"
    assert notes("--limit", "30", "--user", "u1") == ""
    monkeypatch.setattr(listing, "_MAX_COUNTED", 19)
    assert notes("--limit", "10") == "... and more than 19 more (--all)\n"


def test_a_terminal_shows_short_ids_that_commands_accept(desk: Desk) -> None:
    """Also when a request is due, and its priority."""
    desk.enqueue("3f6c1a2b-0000-4000-8000-000000000001", priority=Priority.HIGH)
    desk.enqueue("9d1e0c77-0000-4000-8000-000000000002", ago=5)

    async def work(stores: Stores) -> None:
        for claim in await stores.requests.dequeue(2):
            await stores.requests.retry(claim, timedelta(minutes=9), error="away", code="E")

    desk.do(work)
    env = {"FORCE_COLOR": "1", "NO_COLOR": "1", "TERM": "xterm", "COLUMNS": "80"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", desk.run("list").stdout)
    lines = [line for line in text.splitlines() if "RETRYING" in line]
    request_id, status, action, _age, *others = lines[0].split()
    assert (request_id, status, action) == ("3f6c1a2b", "RETRYING", "a")
    assert others == ["9m", "high", "1/3", "E:", "away"]
    assert lines[1].split()[0] == "9d1e0c77"
    assert desk.json("show", "3f6c1a2b")["request_id"].startswith("3f6c1a2b-0000")


def test_commands_that_change_take_the_beginning_of_an_id(desk: Desk) -> None:
    """They ask before, and print the whole id."""
    desk.enqueue("abcd-1", "efgh-2")
    for options in ((), ("--yes",)):
        refused = desk.run("cancel", "abcd", *options, code=2)
        assert "Cancel abcd-1 (PENDING, a)?" in refused.stderr
    assert "cancelled abcd-1" in desk.answered("y\n", "cancel", "abcd").stdout
    assert "abcd-1 is PENDING again" in desk.answered("y\n", "redrive", "abcd").stdout
    desk.run("cancel", "abcd-1")
    assert "deleted abcd-1" in desk.answered("y\n", "delete", "abcd").stdout
    assert desk.ids() == ["efgh-2"]
    gone = desk.run("delete", "abcd", "--yes", code=1)
    assert isinstance(gone.exception, NotFound)
