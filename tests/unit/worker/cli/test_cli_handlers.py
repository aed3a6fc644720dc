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
    found = registry([report, count])
    monkeypatch.setattr("streamer_worker.cli.handlers.load_handlers", lambda: found)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["handlers", *arguments], env={"COLUMNS": "160"})


def test_every_handler_has_its_line() -> None:
    """With where it runs, what it takes, and its rules."""
    lines = run().output.splitlines()
    assert lines[0].split()[:2] == ["action", "payload"]
    assert [line.split()[0] for line in lines[1:]] == ["count", "report"]
    assert lines[2].split()[:8] == ["report", "Report", "task", "60", "s", "1-9", "s", "4"]
    assert "test_cli_handlers:report" in lines[2]
    assert "thread" in lines[1]


def test_the_schema_is_there_for_producers() -> None:
    """Of all, or of one."""
    told = json.loads(run("report", "--schema").output)
    assert set(told) == {"report"}
    assert told["report"]["properties"]["rows"]["type"] == "integer"
    assert set(json.loads(run("--schema").output)) == {"count", "report"}


def test_programs_read_json() -> None:
    """All that the table has, and the schema."""
    found = {each["action"]: each for each in json.loads(run("--json").output)}
    assert found["report"]["max_concurrency"] == 4
    assert (found["count"]["runs_in"], found["count"]["at_once"]) == ("thread", 32)
    assert found["count"]["schema"]["type"] == "object"


def test_an_action_that_is_not_installed_is_told() -> None:
    """As an error of the call."""
    done = run("nobody")
    assert isinstance(done.exception, StartError)
    assert "'nobody' is not installed" in str(done.exception)
