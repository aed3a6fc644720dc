"""The columns of a table, and what of it a terminal has room for (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from streamer_store import RequestStatus

SHORT_ID_CHARS: Final = 8
"""The fewest characters of an id that a terminal shows."""
WIDE: Final = 110
"""From this number of columns on, a terminal has room for more than what is necessary."""
STATUS_STYLES: Final = {
    RequestStatus.PENDING: "",
    RequestStatus.PROCESSING: "cyan",
    RequestStatus.COMPLETED: "green",
    RequestStatus.FAILED: "red",
    RequestStatus.CANCELLED: "magenta",
    RequestStatus.RETRYING: "yellow",
    RequestStatus.SCHEDULED: "blue",
}

Cell = str | tuple[str, str]
"""A text, or a text and its rich style."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table. Output that is piped has every column."""

    name: str
    can_cut: bool = False
    """Whether a terminal that is too narrow cuts its texts, with an ellipsis."""
    is_optional: bool = False
    """Whether a terminal leaves it out if all of its cells are empty."""
    from_width: int = 0
    """A terminal of fewer columns leaves it out."""
    to_width: int | None = None
    """A terminal of more columns leaves it out, and so does output that is piped. None: never."""

    def is_shown(self, width: int | None, texts: Iterable[str]) -> bool:
        """Return whether a terminal of `width` columns shows it. None: the output is piped."""
        if width is None:
            return self.to_width is None
        has_room = self.from_width <= width <= (self.to_width or width)
        return has_room and not (self.is_optional and not any(texts))


def shortened(ids: Sequence[str], fewest: int = SHORT_ID_CHARS) -> dict[str, str]:
    """Return the beginning of each id by which it differs from the others, by id.

    It has `fewest` characters or more. An id that is the beginning of another one is whole.
    """
    ordered = sorted(set(ids))
    common = dict.fromkeys(ordered, 0)
    for before, after in pairwise(ordered):
        shared = _shared_chars(before, after)
        common[before] = max(common[before], shared)
        common[after] = max(common[after], shared)
    return {each: each[: max(fewest, shared + 1)] for each, shared in common.items()}


def worker_name(worker_id: str) -> str:
    """Return the part of a worker's id that tells workers apart: its beginning is a time."""
    _, _, unique = worker_id.partition("-")
    return unique or worker_id


def shortened_workers(ids: Sequence[str]) -> dict[str, str]:
    """Return the beginning of each worker's name by which it differs from the others, by id."""
    names = {each: worker_name(each) for each in ids}
    short = shortened(list(names.values()))
    return {each: short[name] for each, name in names.items()}


def _shared_chars(left: str, right: str) -> int:
    pairs = enumerate(zip(left, right, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(left), len(right)))
