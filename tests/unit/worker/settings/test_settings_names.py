"""Unknown names of settings, and files that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer_worker.cli import options
from streamer_worker.errors import SettingsError
from streamer_worker.settings import CONFIG_VARIABLE, Settings, load_settings

LINKS = {
    "STREAMER_SERVICE_HOST": "10.0.0.1",
    "STREAMER_SERVICE_PORT": "9464",
    "STREAMER_WORKER_SERVICE_HOST": "10.0.0.1",
    "STREAMER_WORKER_SERVICE_PORT": "9464",
    "STREAMER_WORKER_SERVICE_PORT_HTTP": "9464",
    "STREAMER_PORT": "tcp://10.0.0.1:9464",
    "STREAMER_WORKER_PORT": "tcp://10.0.0.1:9464",
    "STREAMER_WORKER_PORT_9464_TCP": "tcp://10.0.0.1:9464",
    "STREAMER_WORKER_PORT_9464_TCP_PROTO": "tcp",
    "STREAMER_WORKER_PORT_9464_TCP_PORT": "9464",
    "STREAMER_WORKER_PORT_9464_TCP_ADDR": "10.0.0.1",
    "STREAMER_DNS_PORT_53_UDP_ADDR": "10.0.0.1",
    "STREAMER_HTTP_PORT": "tcp://10.0.0.1:80",
    "STREAMER_HTTP_PORT_80_TCP": "tcp://10.0.0.1:80",
    "STREAMER_TEST_DYNAMODB_URL": "http://localhost:8000",
    "STREAMER_TEST_ANYTHING": "x",
    CONFIG_VARIABLE: "/etc/worker.toml",
}


def faults(path: Path | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    return caught.value.faults


@pytest.mark.parametrize("name", LINKS)
def test_service_links_of_kubernetes_are_ignored(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service named `streamer…` in the namespace does not stop a worker from starting."""
    monkeypatch.setenv(name, LINKS[name])
    assert load_settings() == Settings()
    assert load_settings().http.port == 9464


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("STREAMER_CONCURENCY", "STREAMER_CONCURRENCY"),
        ("STREAMER_REAPER_DRYRUN", "STREAMER_REAPER_DRY_RUN"),
        ("STREAMER_HTP_PORT", "STREAMER_HTTP_PORT"),
        ("STREAMER_LOG", "STREAMER_LOG_LEVEL"),
        ("streamer_regoin", "STREAMER_REGION"),
        ("STREAMER_POLL", "STREAMER_POLL_"),
        ("STREAMER_POLL_MIN_INTERVAL_", "STREAMER_POLL_MIN_INTERVAL"),
        ("STREAMER_", "STREAMER_"),
    ],
)
@pytest.mark.parametrize("value", ["5", "debug", "{", "", "[1]"])
def test_an_unknown_variable_is_refused_with_the_nearest(
    name: str, nearest: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused whatever its value is, so that no setting is ignored silently."""
    monkeypatch.setenv(name, value)
    (fault,) = faults()
    assert fault.startswith(name.upper())
    assert f"the nearest is {nearest}" in fault


@pytest.mark.parametrize(
    ("text", "name", "nearest"),
    [
        ("concurency = 5", "concurency", "concurrency"),
        ("[reaper]\nintervall = 5", "reaper.intervall", "reaper.interval"),
        ("[repaer]\ninterval = 5", "repaer", "reaper"),
        ("reaper_interval = 5", "reaper_interval", "reaper.interval"),
        ("[reaper]\nINTERVAL = 5", "reaper.INTERVAL", "reaper.interval"),
        ("_env_prefix = 'X_'", "_env_prefix", ""),
        ("_env_file = 'x'", "_env_file", ""),
    ],
)
def test_an_unknown_name_in_the_file_is_refused_with_the_nearest(
    text: str, name: str, nearest: str, tmp_path: Path
) -> None:
    """Parameters of pydantic-settings are refused as unknown names too."""
    path = tmp_path / "worker.toml"
    path.write_text(text)
    (fault,) = faults(path)
    assert fault.startswith(f"{name}: no such setting; the nearest is {nearest}")


def test_variables_without_the_prefix_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only variables that begin with STREAMER_ are read."""
    for name in ("CONCURRENCY", "MY_STREAMER_X", "STREAMERX_CONCURRENCY", "HTTP_PORT"):
        monkeypatch.setenv(name, "x")
    assert load_settings() == Settings()


def test_the_value_of_an_unknown_variable_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The value may be a secret."""
    monkeypatch.setenv("STREAMER_API_TOKEN", "s3cret")
    assert "s3cret" not in " ".join(faults())


def test_the_value_of_an_unknown_name_in_the_file_is_not_printed(tmp_path: Path) -> None:
    """The value may be a secret."""
    path = tmp_path / "worker.toml"
    path.write_text("[database]\npassword = 's3cret'")
    assert "s3cret" not in " ".join(faults(path))


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        (
            "STREAMER_PUSH_ENDPOINT",
            "https://a.example/prod?x=1",
            "must be a host and a stage, such",
        ),
        ("STREAMER_PUSH_ENDPOINT", "ftp://a.example", "must be a host and a stage, such"),
        ("STREAMER_PUSH_ENDPOINT", "https://a.example/../b", "must be a host and a stage, such"),
        ("STREAMER_PUSH_ENDPOINT", "https://a.example:65536", "must be a host and a stage, such"),
        ("STREAMER_NOTIFIER_MORE_HOSTS", "http://localhost:0", "must be a host such as"),
        ("STREAMER_NOTIFIER_MORE_HOSTS", "a.example:99999", "must be a host such as"),
        ("STREAMER_NOTIFIER_MORE_HOSTS", "-a.example", "must be a host such as"),
        ("STREAMER_NOTIFIER_HOSTS", "https://a.example", "must be a host such as ws.example.com"),
        ("STREAMER_NOTIFIER_MORE_HOSTS", "http://*.a.example", "must be a host such as"),
        ("STREAMER_TABLE_PREFIX", "a/b", "must have only A-Z, a-z"),
        ("STREAMER_ENDPOINT_URL", "localhost:8000", "must begin with http:// or https://"),
    ],
)
def test_a_value_that_a_pattern_refuses(
    name: str, value: str, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault says in words what the value must be."""
    monkeypatch.setenv(name, value)
    (fault,) = faults()
    assert f"({name}): {wanted}" in fault
    assert "pattern" not in fault


def test_credentials_in_a_wrong_url_are_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """User and password are masked. The rest of the URL is printed."""
    monkeypatch.setenv("STREAMER_ENDPOINT_URL", "ftp://user:s3cret@db.example:21")
    (fault,) = faults()
    assert "s3cret" not in fault
    assert "db.example" in fault


def test_a_long_wrong_value_is_truncated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value of 100 KB does not fill the terminal."""
    monkeypatch.setenv("STREAMER_CONCURRENCY", "x" * 100_000)
    (fault,) = faults()
    assert len(fault) < 500


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    """A file that --config names must exist."""
    (fault,) = faults(tmp_path / "none.toml")
    assert "none.toml: No such file" in fault


def test_a_directory_is_a_fault(tmp_path: Path) -> None:
    """The fault names the path."""
    (fault,) = faults(tmp_path)
    assert str(tmp_path) in fault
    assert "directory" in fault


@pytest.mark.parametrize(
    "content", [b"concurrency = ", b"not toml", b"a = 1\na = 2", b"\xff\xfe", b"x = '\xe4'"]
)
def test_a_broken_file_is_a_fault(content: bytes, tmp_path: Path) -> None:
    """The fault names the path and says that it is not TOML."""
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    (fault,) = faults(path)
    assert "broken.toml: not TOML: " in fault


def test_a_broken_file_does_not_hide_wrong_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment is checked even if the file cannot be read."""
    monkeypatch.setenv("STREAMER_HTTP_PORT", "x")
    assert len(faults(tmp_path / "none.toml")) == 2


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    """A file that has only comments is valid."""
    path = tmp_path / "worker.toml"
    path.write_text("# nothing yet\n")
    assert load_settings(path) == Settings()


def test_a_file_is_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    """The file is decoded as UTF-8, as TOML requires."""
    path = tmp_path / "worker.toml"
    path.write_bytes("# für später\nregion = 'eu-zürich-1'".encode())
    assert load_settings(path).region == "eu-zürich-1"


def test_the_commands_read_the_same_variable_for_the_file() -> None:
    """The commands have a copy of its name, because `settings` takes long to import."""
    assert options.CONFIG_VARIABLE == CONFIG_VARIABLE
