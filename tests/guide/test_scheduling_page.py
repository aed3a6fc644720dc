"""The examples of docs/scheduling.md run, and its commands exist."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from processes import ROOT
from streamer_store import Priority, RequestStatus, memory_stores, unique_id
from streamer_store.rates import Rate
from streamer_worker.cli.main import cli
from streamer_worker.handlers.limits import Scope
from streamer_worker.handlers.registry import registry
from streamer_worker.intake.action_settings import with_action_settings
from streamer_worker.settings import load_settings

PAGE = (ROOT / "docs" / "scheduling.md").read_text()
EXAMPLES = re.findall(r"<!-- example[^>]* -->\n```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = re.findall(r"^streamer-worker ((?:schedules )?\w+)\b(.* --.*)", PAGE, re.MULTILINE)


def example(name: str) -> str:
    """Return the example that defines a function of this name."""
    (found,) = [text for text in EXAMPLES if f"def {name}(" in text]
    return str(found)


@pytest.mark.anyio
async def test_the_example_stores_requests_that_run_later() -> None:
    """One after a delay, one at a time, and that one is put off."""
    names: dict[str, Any] = {}
    exec(example("remind"), names)  # noqa: S102  the page is ours
    stores = memory_stores()
    await names["remind"](stores, "A-1")
    requests = [request async for request in stores.requests.get_by_status(RequestStatus.SCHEDULED)]
    due = {request.action: request.retry_after for request in requests}
    assert due["generate_report"] == datetime(2030, 1, 31, 8, tzinfo=UTC)
    await names["put_off"](stores, "A-1")
    report = await stores.requests.get("report-of-A-1")
    assert report.retry_after is not None
    assert report.retry_after - datetime.now(UTC) < timedelta(hours=2)


@pytest.mark.anyio
async def test_the_priority_example_stores_urgent_requests() -> None:
    """High for a user who waits, low otherwise."""
    names: dict[str, Any] = {}
    exec(example("report"), names)  # noqa: S102  the page is ours
    stores = memory_stores()
    for waiting_user in (False, True):
        await names["report"](stores, "acme", waiting_user=waiting_user)
    claims = await stores.requests.dequeue(9)
    assert [claim.request.priority for claim in claims] == [Priority.HIGH, Priority.LOW]


@pytest.mark.anyio
async def test_the_unique_example_stores_one_request_for_a_key() -> None:
    """The second report exists already. A document that changes is indexed once, as it is last."""
    names: dict[str, Any] = {}
    exec(example("order_report"), names)  # noqa: S102  the page is ours
    stores = memory_stores()
    created = [await names["order_report"](stores, "acme", month) for month in ("7", "7", "8")]
    assert created == [True, False, True]
    for revision in range(3):
        await names["document_changed"](stores, "d1", revision)
    stored = await stores.requests.get(unique_id("index", "d1"))
    assert stored.payload == {"document": "d1", "revision": 2}
    assert stored.status is RequestStatus.SCHEDULED


def test_the_handlers_have_the_limits_that_the_page_shows(tmp_path: Path) -> None:
    """And the settings of the page override them."""
    names: dict[str, Any] = {}
    for name in ("send_mail", "rebuild_index"):
        exec(example(name), names)  # noqa: S102  the page is ours
    minute = timedelta(minutes=1)
    assert names["send_mail"].limits.rate_limit == Rate(100, minute)
    assert names["send_mail"].limits.rate_limit_per_tenant == Rate(10, minute)
    assert names["call_bank"].limits.rate_limit == Rate(50, burst=20)
    assert names["rebuild_index"].limits.max_concurrency_scope is Scope.FLEET
    (settings_text,) = re.findall(r"```toml\n(\[actions.*?)```", PAGE, re.DOTALL)
    path = tmp_path / "config.toml"
    path.write_text(settings_text)
    handlers = with_action_settings(registry([names["send_mail"]]), load_settings(path))
    assert handlers["send_mail"].limits.rate_limit == Rate(200, minute)
    assert handlers["send_mail"].limits.max_concurrency_scope is Scope.FLEET


@pytest.mark.parametrize(("name", "arguments"), COMMANDS)
def test_the_commands_have_these_options(name: str, arguments: str) -> None:
    """As their help shows."""
    help_text = CliRunner().invoke(cli, [*name.split(), "--help"], env={"COLUMNS": "200"}).stdout
    options = re.findall(r" (--[\w-]+)", arguments)
    assert options
    assert set(options) <= set(re.findall(r"--[\w-]+", help_text))
    assert len(COMMANDS) == 12
