"""Reads the settings from a file and the environment, and reports all faults at once."""

from __future__ import annotations

import difflib
import os
import tomllib
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from streamer_store import Retention
from streamer_store.target import without_password
from streamer_worker.errors import SettingsError
from streamer_worker.sanitize import pydantic_message
from streamer_worker.settings.actions import ActionSettings, action_fault
from streamer_worker.settings.environment import names_of, settings_variables, variable_of
from streamer_worker.settings.models import Settings
from streamer_worker.settings.parsing import value_text
from streamer_worker.settings.patterns import PATTERN_TEXTS
from streamer_worker.settings.schedules import SCHEDULES, as_plain, fault_of_schedule

_VALUE_CHARS = 100


def load_settings(path: Path | None = None) -> Settings:
    """Read the settings from the environment and the TOML file at `path`.

    Raises SettingsError with every fault. An unknown name is reported with the nearest known one.
    """
    file, faults = ({}, []) if path is None else _read_file(path)
    faults += _unknown_variables()
    # BaseSettings has parameters of its own, whose names begin with an underscore.
    faults += [_unknown_fault(name, setting_names()) for name in file if name.startswith("_")]
    try:
        settings = Settings(**{name: file[name] for name in file if not name.startswith("_")})
    except ValidationError as error:
        faults += [_fault_text(fault) for fault in error.errors()]
    if faults:
        raise SettingsError("the settings are not valid:", faults)
    return settings


def store_arguments(settings: Settings) -> dict[str, Any]:
    """Return the arguments of `open_stores` that come from the settings."""
    return {
        "endpoint_url": settings.endpoint_url,
        "region": settings.region,
        "prefix": settings.table_prefix,
        "table_names": settings.table_names.given,
        "batch_writes": settings.batch_writes,
        "retention": Retention(
            completed=timedelta(seconds=settings.retention.completed),
            failed=timedelta(seconds=settings.retention.failed),
            cancelled=timedelta(seconds=settings.retention.cancelled),
        ),
    }


def setting_names() -> list[str]:
    """Return the name of every setting, such as `concurrency` or `reaper.interval`."""
    return list(names_of(Settings))


@dataclass(frozen=True, slots=True)
class EffectiveSetting:
    """The value of a setting. `source` is default, environment or file. Passwords are masked."""

    name: str
    value: Any
    source: str

    @property
    def text(self) -> str:
        """The value as text that the setting accepts."""
        return value_text(self.value)


def effective_settings(path: Path | None = None) -> list[EffectiveSetting]:
    """Return the value and the source of every setting. Raises SettingsError."""
    settings = load_settings(path)
    file = {} if path is None else _read_file(path)[0]
    variables = {name for name, value in settings_variables(os.environ) if value}
    effective = []
    for name in setting_names():
        value: Any = settings
        in_file: Any = file
        for part in name.split("."):
            value = getattr(value, part)
            in_file = in_file.get(part) if isinstance(in_file, dict) else None
        if name == SCHEDULES:
            value = as_plain(value)
        source = "default" if in_file is None else "file"
        if variable_of(name) in variables:
            source = "environment"
        if isinstance(value, str):
            value = without_password(value)
        effective.append(EffectiveSetting(name, value, source))
    return effective


def _unknown_variables() -> list[str]:
    known = [variable_of(name) for name in setting_names()]
    return [
        _unknown_fault(name, known)
        for name, _ in settings_variables(os.environ)
        if name not in known
    ]


def _read_file(path: Path) -> tuple[dict[str, Any], list[str]]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")), []
    except OSError as error:
        return {}, [f"{path}: {error.strerror}"]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return {}, [f"{path}: not TOML: {error}"]


def _fault_text(fault: Any) -> str:
    location = fault["loc"]
    name = ".".join(str(part) for part in location)
    if (text := fault_of_schedule(fault)) is not None:
        return text
    if location[0] == "actions" and len(location) > 1:
        if fault["type"] != "extra_forbidden":
            return action_fault(location, fault)
        options = [f"actions.{location[1]}.{option}" for option in ActionSettings.model_fields]
        return _unknown_fault(name, options)
    if fault["type"] == "extra_forbidden":
        return _unknown_fault(name, setting_names())
    # The location of a fault in a list or a mapping continues after the name of the setting.
    name = next((known for known in setting_names() if name.startswith(f"{known}.")), name)
    if fault["type"] == "value_error":  # raised by a validator in models.py
        return str(fault["ctx"]["error"])
    value = _value_excerpt(fault["input"])
    wanted = PATTERN_TEXTS.get(fault.get("ctx", {}).get("pattern", ""), pydantic_message(fault))
    return f"{name} ({variable_of(name)}): {wanted}, not {value}"


def _value_excerpt(value: object) -> str:
    text = without_password(repr(value))
    return text if len(text) <= _VALUE_CHARS else text[: _VALUE_CHARS - 1] + "…"


def _unknown_fault(name: str, known: list[str]) -> str:
    by_lower_case = {known_name.lower(): known_name for known_name in known}
    # The nearest to the name of a component is one of its own settings.
    same_prefix = [lower for lower in by_lower_case if lower.startswith(name.lower())]
    candidates = same_prefix or by_lower_case
    nearest = difflib.get_close_matches(name.lower(), candidates, n=1, cutoff=0.0)
    return f"{name}: no such setting; the nearest is {by_lower_case[nearest[0]]}"
