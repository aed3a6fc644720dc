"""The options that say when a request may run."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

import typer

from streamer_store import Clock
from streamer_worker.cli.formatting import date_text, duration_text
from streamer_worker.cli.options import parse_duration


def parse_moment(text: str) -> datetime:
    """Parse a time in ISO 8601 with its time zone. Raises typer.BadParameter."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no time in ISO 8601 (2027-01-31T08:00Z)") from error
    if moment.tzinfo is None:
        raise typer.BadParameter(
            f"{text!r} has no time zone: add Z for UTC, or an offset such as +01:00"
        )
    return moment


InOption = Annotated[
    float | None,
    typer.Option(
        "--in", parser=parse_duration, metavar="TIME", help="Run it 90s, 10m, 2h or 1d from now."
    ),
]
AtOption = Annotated[
    datetime | None,
    typer.Option(
        "--at",
        parser=parse_moment,
        metavar="TIME",
        help="Run it at this time, with its time zone: 2027-01-31T08:00Z or …T08:00+01:00.",
    ),
]
BeyondAYearOption = Annotated[
    bool, typer.Option("--beyond-a-year", help="Allow a time more than 366 days ahead.")
]


def delay_of(seconds: float | None, moment: datetime | None) -> timedelta | None:
    """Return the delay that --in names. Raises typer.BadParameter if --at is given, too."""
    if seconds is not None and moment is not None:
        raise typer.BadParameter("--in and --at cannot be combined")
    return None if seconds is None else timedelta(seconds=seconds)


def due_note(retry_after: datetime | None, clock: Clock) -> str:
    """Return when a request runs, in words."""
    now = clock.now()
    if retry_after is None or retry_after <= now:
        return "runs at once"
    left = duration_text((retry_after - now).total_seconds())
    return f"runs in {left}, at {date_text(retry_after)}"
