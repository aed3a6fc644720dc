"""Rates as text, such as `100/m burst 20` (pure)."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from streamer_store import ValidationError
from streamer_store.rates import Rate

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_WORDS: Final = {"sec": "s", "min": "m", "hour": "h", "hr": "h", "day": "d"}
_RATE: Final = re.compile(
    r"(\d{1,9})\s*/\s*(\d{0,9})\s*([smhd])(?:\s+burst\s+(\d{1,9}))?", re.ASCII
)
_ALMOST: Final = re.compile(r"(\d{1,9})\s*(?:/|per|a)\s*(\d{0,9})\s*([a-z]+?)s?", re.ASCII)
_EXAMPLES: Final = "such as 100/m, 50/s, 5/10s or 100/m burst 20"


def parse_rate(text: str) -> Rate:
    """Return the rate of a text: a count, `/`, a period, and perhaps a burst.

    The period is s, m, h or d, with a number before it for several. Raises ValueError, which says
    what is allowed and, where it can tell, what was meant.
    """
    stripped = text.strip().lower()
    match = _RATE.fullmatch(stripped)
    if match is None:
        raise ValueError(f"{text!r} is no rate {_EXAMPLES}{_meant(stripped)}")
    count, periods, unit, burst = match.groups()
    try:
        return Rate(
            int(count), timedelta(seconds=int(periods or 1) * _UNITS[unit]), int(burst or 1)
        )
    except ValidationError as error:
        raise ValueError(f"{text!r}: {error.message}") from error
    except OverflowError as error:
        raise ValueError(f"{text!r}: rate: must have a period of at most a day") from error


def rate_text(rate: Rate) -> str:
    """Return the shortest text of a rate that `parse_rate` reads."""
    seconds = round(rate.period.total_seconds())
    unit, size = next((unit, size) for unit, size in reversed(_UNITS.items()) if not seconds % size)
    number = "" if seconds == size else str(seconds // size)
    burst = "" if rate.burst == 1 else f" burst {rate.burst}"
    return f"{rate.count}/{number}{unit}{burst}"


def _meant(text: str) -> str:
    match = _ALMOST.fullmatch(text)
    if match is None:
        return ""
    count, periods, word = match.groups()
    unit = next((unit for name, unit in _WORDS.items() if name.startswith(word[:3])), None)
    unit = word if word in _UNITS else unit
    return "" if unit is None else f"; did you mean {count}/{periods}{unit}?"
