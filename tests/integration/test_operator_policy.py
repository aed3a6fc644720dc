"""The shipped policy of operators against the calls of their commands."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from integration.desk import Desk
from integration.gateway import Server, connect, server, subscribe
from integration.policy_fault import PolicyFault
from integration.proxy import proxy_to
from policy import OPERATOR_POLICY, allowed
from streamer_store import WorkerRow

__all__ = ["server"]
pytestmark = pytest.mark.local
PUSH = ("execute-api:ManageConnections", "arn:aws:execute-api:*:*:*/*/POST/@connections/*")


@pytest.fixture
def desk(local_url: str) -> Desk:
    """Give tables on DynamoDB Local, which has the statements that share calls."""
    desk = Desk(local_url)
    desk.do(lambda stores: stores.create_tables())
    return desk


@pytest.fixture
def operator(desk: Desk, server: Server) -> Iterator[tuple[Desk, PolicyFault]]:
    """Give the commands whose calls the policy allows or denies."""
    operator = Desk(desk.settings["STREAMER_ENDPOINT_URL"])
    fault = PolicyFault(desk.settings["STREAMER_TABLE_PREFIX"], OPERATOR_POLICY)
    with proxy_to(desk.settings["STREAMER_ENDPOINT_URL"]) as proxy:
        proxy.fault = fault
        operator.settings = desk.settings | {
            "STREAMER_ENDPOINT_URL": proxy.url,
            "STREAMER_BATCH_WRITES": "true",
            "STREAMER_NOTIFIER_HOSTS": server.host,
        }
        yield operator, fault


def start_worker_row(desk: Desk) -> None:
    now = datetime.now(UTC)
    row = WorkerRow(worker_id="w1", host="h", pid=1, release="1", started_at=now)
    desk.do(lambda stores: stores.workers.register(row))


def test_operators_need_exactly_the_allowed_calls(
    desk: Desk, operator: tuple[Desk, PolicyFault], server: Server
) -> None:
    """Each command that reads, repairs or checks is used, in each of its ways."""
    commands, fault = operator
    ids = [str(number) for number in range(1, 31)]
    desk.enqueue(*ids, connection_id="c1")
    desk.do(lambda stores: connect(stores, server, "c1"))
    commands.run("cancel", "2")  # nobody has subscribed to anything
    stale = {"stale-1", "stale-2"}
    long_ago = datetime.now(UTC) - timedelta(days=9)
    desk.do(lambda stores: connect(stores, server, *stale, connected_at=long_ago))
    desk.do(lambda stores: subscribe(stores, "1", "c1", *stale))
    start_worker_row(desk)

    assert len(commands.json("list")) == 30
    assert len(commands.json("list", "--status", "PENDING", "--action", "a")) == 29
    commands.run("list", "--connection", "c1", "--all")
    commands.run("list", "--user", "nobody")
    commands.run("show", "nobody-begins-so", code=1)  # searches for the beginning of an id
    assert commands.json("show", "1")["status"] == "PENDING"
    commands.run("cancel", "1")
    assert server.of("c1")
    commands.run("watch", "1", code=1)
    commands.run("cancel", "--connection", "c1", "--action", "a", "--yes")
    commands.run("redrive", "1")
    commands.run("redrive", "--cancelled", "--action", "a", "--yes")
    commands.run("cancel", "--status", "PENDING", "--yes")
    commands.run("delete", "1")
    commands.run("delete", "--connection", "c1", "--status", "CANCELLED", "--yes")
    assert commands.ids() == []

    assert len(commands.json("workers")) == 1
    commands.run("drain", "w1")

    assert commands.json("schedules") == []
    commands.run("schedules", "pause", "nobody-has-it", code=1)

    for options in ((), ("--user", "u"), ("--tenant", "t")):
        assert len(commands.json("connections", "list", *options)) == 3
    commands.run("connections", "reap", "--dry-run")
    assert commands.json("connections", "reap", "--yes")["deleted"] == 2

    state = commands.json("status", code=1)  # the worker is dead
    assert "unreadable" not in {finding["code"] for finding in state["findings"]}
    commands.run("tables", "check")
    without_check = set(fault.seen)
    # No handlers are installed here, hence the exit code.
    findings = {each["subject"]: each["level"] for each in commands.json("check", code=1)}
    assert findings["permissions"] == "ok"

    assert fault.seen | {PUSH} == fault.allowed
    for_check = [each for each in OPERATOR_POLICY["Statement"] if each["Sid"].startswith("Check")]
    assert fault.seen - without_check == allowed({"Statement": for_check})
