"""Reading the settings: all faults are told at once."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from streamer_worker.errors import SettingsError
from streamer_worker.settings.environment import meant_as_settings, names_of, variable_of
from streamer_worker.settings.models import Settings
from streamer_worker.settings.parsing import value_text

_CREDENTIALS = re.compile(r"//[^/@]*@")
_SHOWN_CHARS = 100


def load_settings(path: Path | None = None) -> Settings:
    """Read the settings. Raises SettingsError with every fault, the nearest names included."""
    file, faults = ({}, []) if path is None else _read_file(path)
    faults += _unknown_variables()
    # The base class takes arguments of its own, whose names begin with an underscore.
    faults += [_unknown(name, setting_names()) for name in file if name.startswith("_")]
    try:
        settings = Settings(**{name: file[name] for name in file if not name.startswith("_")})
    except ValidationError as error:
        faults += [_words(each) for each in error.errors()]
    if faults:
        raise SettingsError("the settings are not valid:", faults)
    return settings


def setting_names() -> list[str]:
    """Return every setting as `concurrency` or `reaper.interval`."""
    return list(names_of(Settings))


@dataclass(frozen=True, slots=True)
class Effective:
    """A setting in force; `source`: default, environment or file. Passwords are masked."""

    name: str
    value: Any
    source: str

    @property
    def text(self) -> str:
        return value_text(self.value)


def effective_settings(path: Path | None = None) -> list[Effective]:
    """Return all settings, in order. Raises SettingsError."""
    settings = load_settings(path)
    file = {} if path is None else _read_file(path)[0]
    given = {name for name, value in meant_as_settings(os.environ) if value}
    found = []
    for name in setting_names():
        value: Any = settings
        in_file: Any = file
        for part in name.split("."):
            value = getattr(value, part)
            in_file = in_file.get(part) if isinstance(in_file, dict) else None
        source = "default" if in_file is None else "file"
        if variable_of(name) in given:
            source = "environment"
        if isinstance(value, str):
            value = _CREDENTIALS.sub("//***@", value)
        found.append(Effective(name, value, source))
    return found


def _unknown_variables() -> list[str]:
    known = [variable_of(each) for each in setting_names()]
    return [_unknown(name, known) for name, _ in meant_as_settings(os.environ) if name not in known]


def _read_file(path: Path) -> tuple[dict[str, Any], list[str]]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")), []
    except OSError as error:
        return {}, [f"{path}: {error.strerror}"]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return {}, [f"{path}: not TOML: {error}"]


def _words(fault: Any) -> str:
    name = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return _unknown(name, setting_names())
    # A fault inside of a list or a mapping is the setting's.
    name = next((each for each in setting_names() if name.startswith(f"{each}.")), name)
    if fault["type"] == "value_error":  # a contradiction between two settings
        return str(fault["ctx"]["error"])
    return f"{name} ({variable_of(name)}): {fault['msg']}, not {_shown(fault['input'])}"


def _shown(value: object) -> str:
    text = _CREDENTIALS.sub("//***@", repr(value))
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"


def _unknown(name: str, known: list[str]) -> str:
    by_letters = {each.lower(): each for each in known}
    # A component's name alone is nearest to its own settings.
    begun = [each for each in by_letters if each.startswith(name.lower())]
    nearest = difflib.get_close_matches(name.lower(), begun or by_letters, n=1, cutoff=0.0)
    return f"{name}: no such setting; the nearest is {by_letters[nearest[0]]}"
