"""The examples of "On a schedule" in docs/scheduling.md work, and say what the code does."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from processes import ROOT
from streamer_store import Priority
from streamer_worker.handlers.registry import registry
from streamer_worker.schedules.resolving import resolve_schedules
from streamer_worker.settings import ScheduleSettings, load_settings
from streamer_worker.testing import run_handler

if TYPE_CHECKING:
    from pathlib import Path

PAGE = (ROOT / "docs" / "scheduling.md").read_text()
(HANDLERS,) = re.findall(r"<!-- schedules -->\n```python\n(.*?)```", PAGE, re.DOTALL)
(SETTINGS,) = re.findall(r"<!-- schedules settings -->\n```toml\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def names() -> dict[str, Any]:
    found: dict[str, Any] = {}
    exec(HANDLERS, found)  # noqa: S102  the page is ours
    return found


def test_the_handlers_and_the_settings_define_the_schedules(
    names: dict[str, Any], tmp_path: Path
) -> None:
    """Three of handlers, of which the settings change one, and one of the settings."""
    path = tmp_path / "settings.toml"
    path.write_text(SETTINGS)
    handlers = registry([names["nightly_report"], names["sync"]])
    found = resolve_schedules(load_settings(path).schedules, handlers)
    assert sorted(found) == ["first_of_month", "nightly_report", "sync_all", "sync_often"]
    nightly, first = found["nightly_report"], found["first_of_month"]
    assert (nightly.expression.text, nightly.expression.timezone, nightly.payload) == (
        "0 4 * * *",
        "Europe/Berlin",
        {"days": 1},
    )
    assert (first.action, first.catch_up) == ("nightly_report", timedelta(days=1))
    assert (found["sync_all"].priority, found["sync_all"].missed) == (Priority.LOW, "all")


@pytest.mark.anyio
async def test_the_handler_runs(names: dict[str, Any]) -> None:
    """With a payload of a schedule."""
    payload = {
        "days": 1,
        "_metadata": {"schedule": "nightly_report", "tick": "2027-01-31T02:00:00Z"},
    }
    run = await run_handler(names["nightly_report"], payload)
    assert run.result == {"days": 1, "for": "2027-01-31T02:00:00Z"}


def test_the_table_has_every_option() -> None:
    """Of an entry of the settings."""
    table = PAGE.partition("| option | default | |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(ScheduleSettings.model_fields)
