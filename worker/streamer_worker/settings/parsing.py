"""Conversion of setting values from text and to text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from pydantic_core import PydanticCustomError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhd]))+", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])", re.ASCII)


def seconds(value: object) -> object:
    """Return a text such as `90s`, `1.5h` or `2h10m` in seconds. Other values are returned as is.

    pydantic converts `90` and `"90"`, and refuses the rest.
    """
    if isinstance(value, str):
        text = value.strip().lower()
        if _DURATION.fullmatch(text):
            return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    return value


def duration(value: object) -> object:
    """Return a text as `seconds` does. Raises PydanticCustomError for one that is no duration."""
    found = seconds(value)
    if isinstance(found, str):
        try:
            return float(found)
        except ValueError:
            kind, text = "duration", "must be a duration such as 30s, 5m, 1.5h or 2d"
            raise PydanticCustomError(kind, text) from None
    return found


def as_list(value: object) -> object:
    """Return a text such as `a.example, b.example` as a list. Other values are returned as is."""
    return _split(value) if isinstance(value, str) else value


def as_levels(value: object) -> object:
    """Return a text such as `my.plugin=debug, asyncio=error` as a mapping of names to levels.

    Other values are returned as is.
    """
    if isinstance(value, str):
        pairs = (entry.partition("=") for entry in _split(value))
        return {name.strip(): level.strip().lower() for name, _, level in pairs}
    return value


def as_options(value: object) -> object:
    """Return a text such as `mail.rate_limit=100/m, mail.max_concurrency=3` as a mapping of names
    to their options. Other values are returned as is.
    """
    if not isinstance(value, str):
        return value
    options: dict[str, dict[str, str]] = {}
    for entry in _split(value):
        key, _, text = entry.partition("=")
        name, _, option = key.strip().rpartition(".")
        options.setdefault(name, {})[option] = text.strip()
    return options


def value_text(value: object) -> str:
    """Return a setting's value as text that the setting accepts; empty for None."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float():
            return _duration_text(value)  # every float setting is a duration
        case Mapping() if any(isinstance(item, Mapping) for item in value.values()):
            return json.dumps(value, default=str)
        case Mapping():
            return ", ".join(f"{key}={item}" for key, item in _pairs(value))
        case tuple():
            return ", ".join(map(str, value))
    return str(value)


def _pairs(values: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Yield each key with its value, and each option of a mapping of options."""
    for key, value in values.items():
        options = getattr(value, "given", None)
        if options is None:
            yield key, value
        else:
            yield from ((f"{key}.{name}", option) for name, option in options.items())


def _split(text: str) -> list[str]:
    return [stripped for part in text.split(",") if (stripped := part.strip())]


def _duration_text(value: float) -> str:
    milliseconds = round(value * 1000)
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, milliseconds = divmod(milliseconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
