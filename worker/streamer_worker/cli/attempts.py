"""The table of a request's failed attempts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Final

from streamer_store import Attempt
from streamer_worker.cli.columns import SHORT_ID_CHARS, Cell, Column, worker_name
from streamer_worker.cli.formatting import duration_text
from streamer_worker.cli.output import print_line, print_rows

_COLUMNS: Final = (
    Column(name="#"),
    Column(name="started (UTC)"),
    Column(name="ran"),
    Column(name="worker", is_optional=True),
    Column(name="outcome"),
    Column(name="code", is_optional=True, can_cut=True),
    Column(name="error", is_optional=True, can_cut=True),
)


def print_attempts(attempts: Sequence[Attempt]) -> None:
    """Print a line for each failed attempt. Nothing if there is none.

    One whose start is unknown has the time of its end.
    """
    if attempts:
        print_line("failed attempts")
        print_rows(_COLUMNS, [_cells(attempt) for attempt in attempts], shorten=None)


def _cells(attempt: Attempt) -> tuple[Cell, ...]:
    started = attempt.started
    ran = "" if started is None else duration_text((attempt.ended - started).total_seconds())
    return (
        str(attempt.number),
        f"{(started or attempt.ended).astimezone(UTC):%m-%d %H:%M:%S}",
        ran,
        worker_name(attempt.worker_id or "")[:SHORT_ID_CHARS],
        attempt.outcome,
        attempt.error_code or "",
        ": ".join(part for part in (attempt.error_class, attempt.error) if part),
    )
