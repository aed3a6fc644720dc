"""The schedules of handlers and settings, and their faults."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import TypedDict

from streamer_store import Priority
from streamer_worker import Context, Handler, HandlerGroup, Schedule, handler
from streamer_worker.errors import ScheduleError, SettingsError
from streamer_worker.handlers.registry import registry
from streamer_worker.schedules.definition import Definitions
from streamer_worker.schedules.resolving import resolve_schedules
from streamer_worker.settings import load_settings


class Report(TypedDict):
    """A payload."""

    days: int


def report(**options: Any) -> Handler:
    @handler("nightly_report", **options)
    async def nightly(payload: Report, ctx: Context) -> None: ...

    return nightly


def resolved(
    *handlers: Handler | HandlerGroup[Any], toml: str = "", path: Path | None = None
) -> Definitions:
    if path is not None:
        path.write_text(toml)
    return resolve_schedules(load_settings(path).schedules, registry(handlers))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "settings.toml"


def test_a_handler_has_a_schedule_with_the_name_of_its_action() -> None:
    """Its zone is UTC, unless it has another."""
    found = resolved(report(cron="0 3 * * *", timezone="Europe/Berlin", payload={"days": 1}))
    nightly = found["nightly_report"]
    assert (nightly.action, nightly.payload) == ("nightly_report", {"days": 1})
    assert (nightly.expression.text, nightly.expression.timezone) == ("0 3 * * *", "Europe/Berlin")
    assert (nightly.catch_up, nightly.missed) == (timedelta(hours=1), "last")


def test_a_handler_has_several_schedules() -> None:
    """Also one in a group, with every option."""
    group = HandlerGroup[Any]()
    late = Schedule(
        "late",
        cron="0 4 * * *",
        catch_up=timedelta(hours=20),
        missed="all",
        priority=Priority.LOW,
        max_retries=0,
    )

    @group.handler("sync", cron="0 3 * * *", schedules=[late, Schedule("later", cron="0 5 * * *")])
    async def sync(payload: dict[str, Any], ctx: Context) -> None: ...

    found = resolved(group)
    assert sorted(found) == ["late", "later", "sync"]
    request = found["late"].request(None)
    assert (request.priority, request.max_retries) == (Priority.LOW, 0)
    assert request.payload == {"_metadata": {"schedule": "late"}}
    assert len({one.digest for one in found.values()}) == 3


def test_the_settings_define_a_schedule(path: Path) -> None:
    """With all options. The action is the name if there is none."""
    toml = """
        [schedules.nightly_report]
        cron = "0 3 * * *"
        payload = {days = 7}
        [schedules.early]
        action = "nightly_report"
        cron = "0 2 * * *"
        timezone = "Europe/Berlin"
        payload = {days = 1}
        catch_up = "2h"
        missed = "all"
        priority = "high"
        max_retries = 5
        """
    found = resolved(report(), toml=toml, path=path)
    assert found["nightly_report"].payload == {"days": 7}
    early = found["early"]
    assert (early.action, early.catch_up, early.missed) == (
        "nightly_report",
        timedelta(hours=2),
        "all",
    )
    assert (early.priority, early.max_retries) == (Priority.HIGH, 5)


def test_the_settings_override_the_schedule_of_a_handler(path: Path) -> None:
    """What they name. The rest stays as the handler has it."""
    toml = '[schedules.nightly_report]\ncron = "0 4 * * *"'
    own = report(cron="0 3 * * *", timezone="Europe/Berlin", payload={"days": 1})
    nightly = resolved(own, toml=toml, path=path)["nightly_report"]
    assert (nightly.expression.text, nightly.expression.timezone) == ("0 4 * * *", "Europe/Berlin")
    assert nightly.payload == {"days": 1}


def test_the_environment_has_schedules_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one variable."""
    text = '{"early": {"action": "nightly_report", "cron": "0 2 * * *", "payload": {"days": 1}}}'
    monkeypatch.setenv("STREAMER_SCHEDULES", text)
    assert resolved(report())["early"].action == "nightly_report"
    for text, fault in (("{", "not JSON"), ("[" * 100_000, "nested too deeply")):
        monkeypatch.setenv("STREAMER_SCHEDULES", text)
        with pytest.raises(SettingsError, match=rf"STREAMER_SCHEDULES.*{fault}"):
            load_settings()


def test_all_faults_of_the_settings_are_reported_together(path: Path) -> None:
    """Each with its place, and with the nearest valid value where there is one."""
    toml = """
        poll = 5
        [schedules.a]
        cron = "0 25 * * *"
        timezone = "Europe/Berln"
        catch_up = "8 days"
        [schedules."b#c"]
        cron = "@daily"
        catch_up = "25h"
        [actions.mail]
        rate_limit = "100/min"
        """
    with pytest.raises(SettingsError) as caught:
        resolved(report(), toml=toml, path=path)
    faults = "\n".join(caught.value.faults)
    for expected in (
        "poll (STREAMER_POLL): ",
        "schedules.a: cron '0 25 * * *': the hour '25' is not 0-23",
        "schedules.a: timezone 'Europe/Berln' is unknown; the nearest is Europe/Berlin",
        "schedules.a.catch_up: must be a duration such as 30s, 5m, 1.5h or 2d, not '8 days'",
        "schedules.b#c: name: must not contain '#'",
        "schedules.b#c: cron '@daily': write '0 0 * * *'",
        "schedules.b#c.catch_up: Input should be less than or equal to 86400",
        "actions.mail.rate_limit: '100/min' is no rate such as 100/m",
    ):
        assert expected in faults
    assert len(caught.value.faults) == 8


def test_all_faults_of_schedules_are_reported_together(path: Path) -> None:
    """Each with its place, and with the nearest valid value where there is one."""
    toml = """
        [schedules.a]
        action = "nightly_reprot"
        cron = "0 3 * * *"
        [schedules.b]
        action = "nightly_report"
        cron = "0 2 * * *"
        payload = {days = "x"}
        [schedules.e]
        action = "nightly_report"
        """
    wrong: Any = {"missed": "none", "priority": "high", "max_retries": -1, "catch_up": 3600}
    own = report(
        schedules=[
            Schedule("x", cron="0 3 * * *", payload={"days": object()}, **wrong),
            Schedule("x", cron="0 0 30 2 *", payload={"days": 1}),
            Schedule("y#z", cron="0 25 * * *", timezone="Europe/Berln", payload={"days": 1}),
        ]
    )
    with pytest.raises(ScheduleError) as caught:
        resolved(own, toml=toml, path=path)
    faults = "\n".join(caught.value.faults)
    for expected in (
        "schedules.a: no handler of action 'nightly_reprot'; the nearest is 'nightly_report'",
        "schedules.b: the payload does not fit: days: ",
        "schedules.e: cron is missing, and no handler has this schedule",
        "schedule 'x': the name is taken by handler",
        "schedule 'x': cron '0 0 30 2 *': the day-of-month '30' is in none of the months",
        "schedule 'y#z': name: must not contain '#'",
        "schedule 'y#z': cron '0 25 * * *': the hour '25' is not 0-23",
        "schedule 'y#z': timezone 'Europe/Berln' is unknown; the nearest is Europe/Berlin",
    ):
        assert expected in faults
    with pytest.raises(ScheduleError) as caught:
        resolved(report(schedules=[Schedule("x", cron="0 3 * * *", payload={"days": 1}, **wrong)]))
    assert len(caught.value.faults) == 4


@pytest.mark.parametrize(
    "payload", [{"days": 1, "x": object()}, ["days"], {"days": 1, "x": "y" * 400_000}]
)
def test_a_payload_that_cannot_be_stored_is_a_fault(payload: Any) -> None:
    """It would fail at each tick."""

    @handler("any", cron="0 3 * * *", payload=payload)
    async def any_payload(payload: dict[str, Any], ctx: Context) -> None: ...

    with pytest.raises(ScheduleError, match="payload"):
        resolved(any_payload)


def test_wrong_types_of_options_are_refused_where_they_stand() -> None:
    """In the decorator."""
    name: Any = []
    with pytest.raises(TypeError, match="timezone of action 'nightly_report' needs cron"):
        report(timezone="UTC")
    with pytest.raises(TypeError, match="must be Schedules"):
        report(schedules=["0 3 * * *"])
    with pytest.raises(TypeError, match=r"a name of schedules of 'nightly_report' must be text"):
        report(schedules=[Schedule(name, cron="0 3 * * *")])
    with pytest.raises(ScheduleError, match="cron must be text, not 5"):
        resolved(report(cron=5, payload={"days": 1}))


@pytest.mark.parametrize(
    ("toml", "fault"),
    [
        (
            "[schedules.a]\ncorn = '* * * * *'",
            "schedules.a.corn: no such option; the nearest is cron",
        ),
        ("[schedules.a]\ncatch_up = []", "schedules.a.catch_up: "),
        ("[schedules.a]\nmissed = 'none'", "schedules.a.missed: "),
        ("[schedules]\na = '* * * * *'", "schedules.a: must be a table such as [schedules.a]"),
    ],
)
def test_options_of_the_settings_are_checked(path: Path, toml: str, fault: str) -> None:
    """The fault names the schedule and the option."""
    path.write_text(toml)
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    assert fault in "\n".join(caught.value.faults)
