"""The arguments of `ctx.progress` and `ctx.track` (pure)."""

from __future__ import annotations

from operator import length_hint
from typing import Any, Final

from streamer_store import ValidationError
from streamer_store.values import short_repr

_ROUNDING: Final = 1e-9


def fraction_of(done: float | None, total: float | None) -> float | None:
    """Return `done` as a fraction of `total`. Without a total `done` is the fraction itself.

    More than the total is 1.0, since totals are often estimates. Raises ValidationError.
    """
    if done is None:
        return None
    limit = 1.0 if total is None else total
    arguments: tuple[tuple[str, object], ...] = (("progress", done), ("total", limit))
    for name, value in arguments:
        # `not >=` refuses NaN. A bool is a mistake.
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise ValidationError(name, f"must be a number, 0 or more, not {short_repr(value)}")
    if total is None:
        if done > 1 + _ROUNDING:
            raise ValidationError(
                "progress",
                f"must be a fraction from 0 to 1, or have a total, not {short_repr(done)}",
            )
        return min(1.0, float(done))
    return 1.0 if done >= total else done / total


def total_of(items: object, total: float | None) -> float | None:
    """Return `total`, else the length of the items as far as it is known. None: it is unknown."""
    return total if total is not None else length_hint(items) or None


def track_arguments(done: int, total: float | None, message: str | None) -> dict[str, Any]:
    """Return the arguments of `progress` after `done` items."""
    if total is None:
        return {"message": message, "details": {"done": done}}
    return {"fraction_or_done": done, "message": message, "total": total}
