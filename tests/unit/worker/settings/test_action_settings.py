"""The limits of single actions in the settings."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from streamer_store.rates import Rate
from streamer_worker import Context, handler
from streamer_worker.errors import SettingsError
from streamer_worker.handlers.limits import Scope
from streamer_worker.handlers.registry import registry
from streamer_worker.intake.action_settings import unused_action_settings, with_action_settings
from streamer_worker.settings import Settings, effective_settings, load_settings


@handler("mail", rate_limit="1/s", max_concurrency=4)
async def mail(_payload: dict[str, Any], _ctx: Context) -> None: ...


@handler("plain")
async def plain(_payload: dict[str, Any], _ctx: Context) -> None: ...


def settings_of(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return load_settings(path)


def test_the_settings_override_the_handler(tmp_path: Path) -> None:
    """What they do not say is as the handler says, and other handlers are as they were."""
    settings = settings_of(
        tmp_path,
        "[actions.mail]\nrate_limit = '5/10s'\nmax_concurrency_scope = 'fleet'\n"
        "[actions.'plain']\nrate_limit_per_tenant = '2/m burst 3'\n",
    )
    handlers = with_action_settings(registry([mail, plain]), settings)
    limits = handlers["mail"].limits
    assert limits.rate_limit == Rate(5, timedelta(seconds=10))
    assert (limits.max_concurrency, limits.max_concurrency_scope) == (4, Scope.FLEET)
    assert handlers["mail"].max_concurrency is None
    assert handlers["plain"].limits.rate_limit_per_tenant == Rate(2, timedelta(minutes=1), 3)


def test_all_faults_are_reported_together_with_their_places(tmp_path: Path) -> None:
    """Unknown options come with the nearest one, and rates with what is allowed."""
    with pytest.raises(SettingsError) as raised:
        settings_of(
            tmp_path,
            "[actions.mail]\nrate_limt = '5/s'\nmax_concurrency = 0\n"
            "[actions.other]\nrate_limit = '100/min'\nmax_concurrency_scope = 'all'\n",
        )
    faults = "\n".join(raised.value.faults)
    assert "actions.mail.rate_limt: no such setting; the nearest is actions.mail.rate_limit" in (
        faults
    )
    assert "actions.mail.max_concurrency: " in faults
    assert "actions.other.rate_limit: '100/min' is no rate such as 100/m" in faults
    assert "did you mean 100/m?" in faults
    assert "actions.other.max_concurrency_scope: " in faults


def test_a_scope_without_a_number_is_refused(tmp_path: Path) -> None:
    """How many run at once is neither in the settings nor at the handler."""
    settings = settings_of(tmp_path, "[actions.plain]\nmax_concurrency_scope = 'fleet'\n")
    with pytest.raises(SettingsError, match=r"actions\.plain: max_concurrency_scope"):
        with_action_settings(registry([plain]), settings)


def test_settings_of_an_action_without_a_handler_are_named(tmp_path: Path) -> None:
    """With the nearest action that has one."""
    settings = settings_of(
        tmp_path, "[actions.mial]\nmax_concurrency = 1\n[actions.zebra]\nmax_concurrency = 1\n"
    )
    handlers = registry([mail, plain])
    assert unused_action_settings(handlers, settings) == {"mial": "mail", "zebra": None}
    assert with_action_settings(handlers, settings) == handlers


def test_the_effective_settings_show_them_as_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the form that the variable takes."""
    path = tmp_path / "config.toml"
    path.write_text("[actions.mail]\nrate_limit = '5/s'\nmax_concurrency = 2\n")
    shown = next(each for each in effective_settings(path) if each.name == "actions")
    assert (shown.source, shown.text) == ("file", "mail.max_concurrency=2, mail.rate_limit=5/s")
    monkeypatch.setenv("STREAMER_ACTIONS", shown.text)
    assert load_settings().actions == load_settings(path).actions
