"""The settings of tables that have a name of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer_worker.errors import SettingsError
from streamer_worker.settings import load_settings


def faults(path: Path | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    return sorted(caught.value.faults)


def test_tables_have_the_prefix_or_a_name_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names come from the file and the environment. A name overrides the prefix."""
    path = tmp_path / "worker.toml"
    path.write_text("table_prefix = 'p_'\n[table_names]\nrequests = 'jobs'\nworkers = 'fleet'\n")
    monkeypatch.setenv("STREAMER_TABLE_NAMES_WORKERS", "crew")
    monkeypatch.setenv("STREAMER_TABLE_PREFIX", "q_")
    settings = load_settings(path)
    assert list(settings.tables) == ["q_connections", "jobs", "q_subscriptions", "crew"]
    assert settings.table_names.given == {"requests": "jobs", "workers": "crew"}


def test_one_name_for_two_tables_is_refused_beside_other_faults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The name may be made from the prefix."""
    monkeypatch.setenv("STREAMER_TABLE_NAMES_REQUESTS", "streamer_workers")
    monkeypatch.setenv("STREAMER_CONCURRENCY", "0")
    (_, same) = faults()
    assert "requests and workers have one name, streamer_workers: give each a name" in same


def test_a_name_for_an_unknown_table_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nearest table is suggested, for the file and for a variable."""
    path = tmp_path / "worker.toml"
    path.write_text("[table_names]\nrequest = 'jobs'\n")
    (fault,) = faults(path)
    assert fault.endswith("no such setting; the nearest is table_names.requests")
    monkeypatch.setenv("STREAMER_TABLE_NAMES_REQUEST", "jobs")
    (fault,) = faults()
    assert fault.endswith("no such setting; the nearest is STREAMER_TABLE_NAMES_REQUESTS")
