"""Faults of settings, handlers and schedules are reported together."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamer_worker.cli.main import cli
from streamer_worker.errors import StartError

_HANDLERS = """
from typing import Any
from streamer_worker import Context, handler

@handler("mail", rate_limit="100/min", rate_limit_per_tenant="5", cron="0 25 * * *")
async def mail(payload: dict[str, Any], ctx: Context) -> None: ...

@handler("sync", cron="0 3 * * *", timezone="Europe/Berln")
async def sync(payload: dict[str, Any], ctx: Context) -> None: ...
"""
_OF_HANDLERS = [
    "handler mail of 'mail': rate_limit: '100/min' is no rate such as 100/m, 50/s, 5/10s or 100/m",
    "handler mail of 'mail': rate_limit_per_tenant: '5' is no rate such as",
    "handler mail: schedule 'mail': cron '0 25 * * *': the hour '25' is not 0-23",
    "handler sync: schedule 'sync': timezone 'Europe/Berln' is unknown; the nearest is Europe/",
]
_SUBJECTS = {"settings", "handlers", "schedules"}
# Nothing answers there, for `check`.
_ENDPOINT = 'endpoint_url = "http://127.0.0.1:9"\n'


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "faulty_app.py").write_text(_HANDLERS)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "modules", {**sys.modules})
    return tmp_path


def faults_of(command: str, app: Path, toml: str, *modules: str) -> list[str]:
    """Return the faults that `run`, `handlers` or `check` reports."""
    config = app / "config.toml"
    config.write_text(_ENDPOINT + toml)
    named = [text for module in modules for text in ("--handlers", module)]
    options = [*named, "--app-dir", str(app), "--config", str(config)]
    if command == "check":
        result = CliRunner().invoke(cli, ["check", "--json", *options])
        findings = [one for one in json.loads(result.stdout) if one["level"] == "error"]
        return [one["text"] for one in findings if one["subject"] in _SUBJECTS]
    result = CliRunner().invoke(cli, [command, *options])
    assert isinstance(result.exception, StartError)
    return result.exception.faults


@pytest.mark.parametrize("command", ["handlers", "check"])
def test_faults_of_handlers_and_of_settings(app: Path, command: str) -> None:
    """Each once, all in one run."""
    toml = """
        poll = 5
        [schedules.a]
        cron = "every day"
        [actions.mail]
        rate_limit = "lots"
        """
    faults = faults_of(command, app, toml, "faulty_app")
    of_settings = ["poll ", "schedules.a: cron 'every day'", "actions.mail.rate_limit: 'lots'"]
    for expected in [*of_settings, *_OF_HANDLERS]:
        assert sum(expected in fault for fault in faults) == 1, expected
    assert len(faults) == len(of_settings) + len(_OF_HANDLERS)


@pytest.mark.parametrize("command", ["handlers", "check"])
def test_faults_of_handlers_and_of_imports(app: Path, command: str) -> None:
    """A schedule of a handler that cannot be imported has no fault of its own."""
    (app / "broken_app.py").write_text("import no_such_module\n")
    toml = '[schedules.broken]\ncron = "0 3 * * *"'
    faults = faults_of(command, app, toml, "faulty_app", "broken_app")
    faults = [fault for fault in faults if "no_such_module" not in fault]
    for expected in _OF_HANDLERS:
        assert sum(expected in fault for fault in faults) == 1, expected
    assert len(faults) == len(_OF_HANDLERS)


def test_one_kind_of_faults_keeps_its_headline(app: Path) -> None:
    """Others would only make it longer."""
    (app / "sound_app.py").write_text(_HANDLERS.replace("100/min", "100/m").replace('"5"', '"5/s"'))
    config = app / "config.toml"
    config.write_text("")
    options = ["--handlers", "sound_app", "--app-dir", str(app), "--config", str(config)]
    result = CliRunner().invoke(cli, ["handlers", *options])
    assert str(result.exception).startswith("the schedules are not valid:\n")
