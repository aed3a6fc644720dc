"""The example of docs/scheduling.md runs, and its commands exist."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from processes import ROOT
from streamer_store import RequestStatus, memory_stores
from streamer_worker.cli.main import cli

PAGE = (ROOT / "docs" / "scheduling.md").read_text()
(EXAMPLE,) = re.findall(r"<!-- example -->\n```python\n(.*?)```", PAGE, re.DOTALL)
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


@pytest.mark.parametrize(("name", "option"), COMMANDS)
def test_the_commands_have_these_options(name: str, option: str) -> None:
    """As their help shows."""
    help_text = CliRunner().invoke(cli, [name, "--help"], env={"COLUMNS": "200"}).stdout
    assert option in help_text
    assert len(COMMANDS) == 9
