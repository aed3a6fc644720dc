"""The examples of docs/scheduling.md run, and its commands exist."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from processes import ROOT
from streamer_store import Priority, RequestStatus, memory_stores, unique_id
from streamer_worker.cli.main import cli

PAGE = (ROOT / "docs" / "scheduling.md").read_text()
(EXAMPLE,) = re.findall(r"<!-- example -->\n```python\n(.*?)```", PAGE, re.DOTALL)
(UNIQUE,) = re.findall(r"<!-- example: unique -->\n```python\n(.*?)```", PAGE, re.DOTALL)
(PRIORITY,) = re.findall(r"<!-- example: priority -->\n```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = re.findall(r"^streamer-worker (\w+) .*?(--\w+)", PAGE, re.MULTILINE)


@pytest.mark.anyio
async def test_the_example_stores_requests_that_run_later() -> None:
    """One after a delay, one at a time, and that one is put off."""
    names: dict[str, Any] = {}
    exec(EXAMPLE, names)  # noqa: S102  the page is ours
    stores = memory_stores()
    await names["remind"](stores, "A-1")
    requests = [request async for request in stores.requests.get_by_status(RequestStatus.SCHEDULED)]
    due = {request.action: request.retry_after for request in requests}
    assert due["generate_report"] == datetime(2027, 1, 31, 8, tzinfo=UTC)
    await names["put_off"](stores, "A-1")
    report = await stores.requests.get("report-of-A-1")
    assert report.retry_after is not None
    assert report.retry_after - datetime.now(UTC) < timedelta(hours=2)


@pytest.mark.anyio
async def test_the_priority_example_stores_urgent_requests() -> None:
    """High for a user who waits, low otherwise."""
    names: dict[str, Any] = {}
    exec(PRIORITY, names)  # noqa: S102  the page is ours
    stores = memory_stores()
    for waiting_user in (False, True):
        await names["report"](stores, "acme", waiting_user=waiting_user)
    claims = await stores.requests.dequeue(9)
    assert [claim.request.priority for claim in claims] == [Priority.HIGH, Priority.LOW]


@pytest.mark.anyio
async def test_the_unique_example_stores_one_request_for_a_key() -> None:
    """The second report exists already. A document that changes is indexed once, as it is last."""
    names: dict[str, Any] = {}
    exec(UNIQUE, names)  # noqa: S102  the page is ours
    stores = memory_stores()
    created = [await names["order_report"](stores, "acme", month) for month in ("7", "7", "8")]
    assert created == [True, False, True]
    for revision in range(3):
        await names["document_changed"](stores, "d1", revision)
    stored = await stores.requests.get(unique_id("index", "d1"))
    assert stored.payload == {"document": "d1", "revision": 2}
    assert stored.status is RequestStatus.SCHEDULED


@pytest.mark.parametrize(("name", "option"), COMMANDS)
def test_the_commands_have_these_options(name: str, option: str) -> None:
    """As their help shows."""
    help_text = CliRunner().invoke(cli, [name, "--help"], env={"COLUMNS": "200"}).stdout
    assert option in help_text
    assert len(COMMANDS) == 11
