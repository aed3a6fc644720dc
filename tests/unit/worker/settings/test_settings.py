"""Settings from the environment and a TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from streamer_worker.errors import SettingsError
from streamer_worker.settings import (
    Settings,
    load_settings,
    setting_names,
)
from unit.worker.settings.values import VALUES


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> Any:
    def put(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.fixture
def toml(tmp_path: Path) -> Any:
    def write(text: str) -> Path:
        path = tmp_path / "worker.toml"
        path.write_text(text)
        return path

    return write


def faults(path: Path | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    assert all(fault in str(caught.value) for fault in caught.value.faults)
    return caught.value.faults


def test_everything_has_a_default() -> None:
    """Without variables and a file the settings have their documented defaults."""
    settings = load_settings()
    assert settings == Settings()
    assert settings.concurrency == 32
    assert settings.table_prefix == "streamer_"
    assert settings.drain_timeout == 25
    assert (settings.poll.min_interval, settings.poll.max_interval) == (0.05, 0.5)
    assert (settings.reaper.interval, settings.reaper.stale_after) == (300, 7800)
    assert (settings.reaper.enabled, settings.reaper.dry_run) == (True, False)
    assert (settings.presence.heartbeat, settings.presence.lease) == (4, 16)
    assert (settings.handler.timeout, settings.handler.cancel_grace) == (900, 5)
    assert (settings.tenant_concurrency, settings.presence.foreign_claim_timeout) == (None, None)
    assert (settings.http.enabled, settings.http.port) == (True, 9464)
    assert (settings.log.level, settings.log.format) == ("info", "auto")


def value_of(settings: Any, name: str) -> Any:
    for part in name.split("."):
        settings = getattr(settings, part)
    return settings


def test_every_setting_is_in_the_table() -> None:
    """VALUES has a line for every setting, so that each is tested."""
    assert set(VALUES) == set(setting_names())


@pytest.mark.parametrize("name", VALUES)
def test_a_variable_sets_it(name: str, env: Any) -> None:
    """`reaper.interval` is STREAMER_REAPER_INTERVAL."""
    text, value = VALUES[name]
    env(**{"STREAMER_" + name.replace(".", "_").upper(): text})
    assert value_of(load_settings(), name) == value


@pytest.mark.parametrize("name", VALUES)
def test_the_file_sets_it(name: str, toml: Any) -> None:
    """`reaper.interval` is `interval` under `[reaper]`."""
    text, value = VALUES[name]
    table, _, key = name.rpartition(".")
    quoted = f"'{text}'" if '"' in text else f'"{text}"'
    assert (
        value_of(load_settings(toml(f"[{table}]\n" * bool(table) + f"{key} = {quoted}")), name)
        == value
    )


def test_the_environment_wins_over_the_file(env: Any, toml: Any) -> None:
    """A variable overrides its own setting only, not the rest of the file's table."""
    path = toml("concurrency = 5\n[reaper]\ninterval = 60\nstale_after = '3h'")
    env(STREAMER_REAPER_INTERVAL="30")
    settings = load_settings(path)
    assert settings.concurrency == 5
    assert settings.reaper.interval == 30
    assert settings.reaper.stale_after == 10800


def test_names_of_variables_may_be_lower_case(env: Any) -> None:
    """Variables in lower or mixed case set the same settings."""
    env(streamer_concurrency="9", streamer_Log_Level="debug")
    settings = load_settings()
    assert (settings.concurrency, settings.log.level) == (9, "debug")


def test_an_empty_variable_is_ignored(env: Any, toml: Any) -> None:
    """An empty variable counts as unset: the file's value or the default is used."""
    env(STREAMER_CONCURRENCY="", STREAMER_REGION="", STREAMER_HTTP_PORT="")
    settings = load_settings(toml("concurrency = 5"))
    assert (settings.concurrency, settings.region, settings.http.port) == (5, None, 9464)


def test_settings_are_frozen() -> None:
    """A setting cannot be assigned."""
    with pytest.raises(ValidationError, match="frozen"):
        load_settings().concurrency = 5


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("90", 90.0),
        ("90s", 90.0),
        (" 90s ", 90.0),
        ("1.5h", 5400.0),
        ("2h10m", 7800.0),
        ("1h1m1s1ms", 3661.001),
        ("50ms", 0.05),
        ("0.5", 0.5),
        ("1d", 86400.0),
        ("10M", 600.0),
    ],
)
def test_durations_have_units(text: str, value: float, env: Any) -> None:
    """A duration is a number of seconds, or numbers with units one after another."""
    env(STREAMER_DRAIN_TIMEOUT=text)
    assert load_settings().drain_timeout == pytest.approx(value)


@pytest.mark.parametrize("literal", ["90", "90.0", '"90s"', '"1m30s"'])
def test_a_duration_in_the_file_may_be_a_number(literal: str, toml: Any) -> None:
    """A number in the file is in seconds."""
    assert load_settings(toml(f"drain_timeout = {literal}")).drain_timeout == 90


@pytest.mark.parametrize(
    "text",
    [
        "-1",
        "0",
        "0s",
        "nan",
        "inf",
        "-inf",
        "1e999",
        "9" * 400,
        "9" * 400 + "h",
        "2d",
        "soon",
        "5 s",
        "5s5",
        "1h-5m",
        "s",
        "٣s",
        "5w",
        "[]",
        "{}",
        "\x1b[31m",
    ],
)
def test_an_absurd_duration_is_refused(text: str, env: Any) -> None:
    """A text that is not a positive duration within bounds is a fault that names the variable."""
    env(STREAMER_DRAIN_TIMEOUT=text)
    (fault,) = faults()
    assert fault.startswith("drain_timeout (STREAMER_DRAIN_TIMEOUT): ")
    assert fault.isprintable()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *[("CONCURRENCY", text) for text in ["0", "-1", "10001", "1e9", "many", "1.5", "nan"]],
        *[("HTTP_PORT", text) for text in ["-1", "65536", "http", "80.5", "99999999999999999999"]],
        *[("LOG_LEVEL", text) for text in ["loud", "INFO ", "10"]],
        *[("REAPER_ENABLED", text) for text in ["maybe", "2", "-1"]],
        ("REAPER_STALE_AFTER", "59s"),
        ("REAPER_STALE_AFTER", "366d"),
        ("REAPER_INTERVAL", "25h"),
        ("POLL_MAX_INTERVAL", "11m"),
        ("POLL_UNKNOWN_ACTION_TIMEOUT", "31d"),
        *[("TENANT_CONCURRENCY", text) for text in ["0", "-1", "some"]],
        ("HANDLER_TIMEOUT", "31d"),
        ("HANDLER_CANCEL_GRACE", "0"),
        *[("HANDLER_THREADS", text) for text in ["0", "1001"]],
        ("PRESENCE_HEARTBEAT", "10ms"),
        ("PRESENCE_STUCK_AFTER", "0.5"),
        ("PRESENCE_FOREIGN_CLAIM_TIMEOUT", "never"),
        ("TABLE_PREFIX", "with space"),
        ("TABLE_PREFIX", "x" * 201),
        ("TABLE_PREFIX", "streamer_\n"),
        *[("TABLE_NAMES_REQUESTS", text) for text in ["ab", "x" * 256, "a b", "jobs\n", "täbel"]],
        ("ENDPOINT_URL", "localhost:8000"),
        ("ENDPOINT_URL", "tcp://localhost:8000"),
        ("LOG_FORMAT", "xml"),
        *[("LOG_LEVELS", text) for text in ["my.plugin", "my.plugin=loud", "botocore.hooks=info"]],
    ],
)
def test_an_absurd_value_is_refused(name: str, text: str, env: Any) -> None:
    """There is one fault, and it names the variable."""
    env(**{f"STREAMER_{name}": text})
    (fault,) = faults()
    assert f"(STREAMER_{name}): " in fault


@pytest.mark.parametrize(
    "line",
    [
        "concurrency = -5",
        "concurrency = nan",
        "drain_timeout = inf",
        "drain_timeout = []",
        "poll = 5",
        "reaper = []",
        "concurrency = 2026-01-01",
        "region = ''",
        "region = 5",
    ],
)
def test_an_absurd_value_in_the_file_is_refused(line: str, toml: Any) -> None:
    """There is one fault, and it names the setting."""
    (fault,) = faults(toml(line))
    assert fault.startswith(line.partition(" ")[0])


def test_a_min_interval_above_the_max_interval_is_refused(env: Any) -> None:
    """poll.min_interval must not be longer than poll.max_interval."""
    env(STREAMER_POLL_MIN_INTERVAL="2s", STREAMER_POLL_MAX_INTERVAL="1s")
    assert faults() == ["poll.min_interval (2 s) is longer than poll.max_interval (1 s)"]


@pytest.mark.parametrize(("heartbeat", "lease"), [("6s", "16s"), ("4s", "11s"), ("1m", "1m")])
def test_a_lease_shorter_than_three_heartbeats_is_refused(
    heartbeat: str, lease: str, env: Any
) -> None:
    """Otherwise one lost heartbeat could end a lease."""
    env(STREAMER_PRESENCE_HEARTBEAT=heartbeat, STREAMER_PRESENCE_LEASE=lease)
    (fault,) = faults()
    assert fault.startswith("presence.lease (")
    assert "three times presence.heartbeat" in fault


def test_a_lease_of_three_heartbeats_is_accepted(env: Any) -> None:
    """Three heartbeats are the shortest lease."""
    env(STREAMER_PRESENCE_HEARTBEAT="1s", STREAMER_PRESENCE_LEASE="3s")
    assert load_settings().presence.lease == 3


def test_all_faults_are_reported_together(env: Any, toml: Any) -> None:
    """Wrong values and unknown names, in the environment and the file, are in one error."""
    env(STREAMER_CONCURENCY="5", STREAMER_HTTP_PORT="x", STREAMER_LOG_LEVEL="loud")
    reported = faults(toml("drain_timeout = -1\nregoin = 'x'\n[reaper]\nintervall = 5"))
    assert len(reported) == 6
    for name in (
        "STREAMER_CONCURENCY",
        "STREAMER_HTTP_PORT",
        "STREAMER_LOG_LEVEL",
        "drain_timeout",
        "regoin",
        "reaper.intervall",
    ):
        assert any(name in fault for fault in reported)


def test_a_contradiction_is_reported_beside_other_faults(env: Any) -> None:
    """An unknown name does not hide that two settings contradict each other."""
    env(STREAMER_POLL_MIN_INTERVAL="2s", STREAMER_CONCURENCY="5")
    assert len(faults()) == 2
