"""`streamer-worker handlers`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from streamer_worker import Context, RetryPolicy, SyncContext, handler
from streamer_worker.cli.main import cli
from streamer_worker.errors import StartError
from streamer_worker.handlers.registry import registry

if TYPE_CHECKING:
    from typer.testing import Result


class Report(BaseModel):
    rows: int


@handler("report", timeout=60, retry=RetryPolicy(first=1, longest=9), max_concurrency=4)
async def report(_payload: Report, _ctx: Context) -> None: ...


@handler("count")
def count(_payload: dict[str, Any], _ctx: SyncContext) -> None: ...


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = registry([report, count])
    monkeypatch.setattr("streamer_worker.handlers.registry.load_handlers", lambda **_: installed)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["handlers", *arguments], env={"COLUMNS": "160"})


def test_every_handler_has_its_line() -> None:
    """The line has the payload's type, where it runs, its timeout, retries and concurrency."""
    lines = run().output.splitlines()
    assert lines[0].split()[:2] == ["action", "payload"]
    assert [line.split()[0] for line in lines[1:]] == ["count", "report"]
    assert lines[2].split()[:8] == ["report", "Report", "task", "60", "s", "1-9", "s", "4"]
    assert "test_cli_handlers:report" in lines[2]
    assert "thread" in lines[1]


def test_the_limits_of_the_fleet_have_a_column(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its concurrency, its rates and its fuse."""
    limited = handler(
        "count",
        max_concurrency=3,
        max_concurrency_scope="fleet",
        rate_limit="100/m",
        rate_limit_per_tenant="10/m",
        pause_after_failures=20,
    )(report.function)
    installed = registry([limited])
    monkeypatch.setattr("streamer_worker.handlers.registry.load_handlers", lambda **_: installed)
    (line,) = run().output.splitlines()[1:]
    assert "3 in the fleet, 100/m, 10/m per tenant, pause after 20 failures" in line
    (fields,) = json.loads(run("--json").output)
    assert (fields["effective_concurrency"], fields["pause_after_failures"]) == (3, 20)


def test_the_schema_is_printed_for_producers() -> None:
    """--schema prints the JSON Schemas of all payloads, or of one action's."""
    schemas = json.loads(run("report", "--schema").output)
    assert set(schemas) == {"report"}
    assert schemas["report"]["properties"]["rows"]["type"] == "integer"
    assert set(json.loads(run("--schema").output)) == {"count", "report"}


def test_programs_read_json() -> None:
    """--json prints the columns of the table, and the schema."""
    listed = {fields["action"]: fields for fields in json.loads(run("--json").output)}
    assert listed["report"]["max_concurrency"] == 4
    assert listed["count"]["runs_in"] == "thread"
    assert listed["count"]["effective_concurrency"] == 32
    assert listed["count"]["pause_after_failures"] is None
    assert listed["count"]["schema"]["type"] == "object"


def test_an_action_that_is_not_installed_is_an_error() -> None:
    """The error names the action and those that are installed."""
    ended = run("unknown")
    assert isinstance(ended.exception, StartError)
    assert "'unknown' is not installed; installed actions: count, report" in str(ended.exception)
