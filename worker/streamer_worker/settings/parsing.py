"""Values of settings, from the words that people write, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhd]))+", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])", re.ASCII)


def seconds(value: object) -> object:
    """Read `90`, `"90"`, `"90s"`, `"1.5h"` or `"2h10m"` as seconds; pydantic judges the rest."""
    if isinstance(value, str):
        text = value.strip().lower()
        if _DURATION.fullmatch(text):
            return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    return value


def _parts(text: str) -> list[str]:
    return [each for part in text.split(",") if (each := part.strip())]


def as_list(value: object) -> object:
    """Read `a.example, b.example` as a list; pydantic judges the rest."""
    return _parts(value) if isinstance(value, str) else value


def as_levels(value: object) -> object:
    """Read `my.plugin=debug, asyncio=error` as a mapping; pydantic judges the rest."""
    if isinstance(value, str):
        pairs = (each.partition("=") for each in _parts(value))
        return {name.strip(): level.strip().lower() for name, _, level in pairs}
    return value


def value_text(value: object) -> str:
    """Return a setting's value in words that the setting takes; nothing for None."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float():
            return _duration_text(value)  # all that are not whole numbers are durations
        case Mapping():
            return ", ".join(f"{key}={each}" for key, each in value.items())
        case tuple():
            return ", ".join(map(str, value))
    return str(value)


def _duration_text(value: float) -> str:
    milliseconds = round(value * 1000)
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, milliseconds = divmod(milliseconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
