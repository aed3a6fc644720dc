"""What commands that pause something take, and who gave it."""

from __future__ import annotations

import getpass
import socket
from datetime import datetime, timedelta
from typing import Annotated

import typer

from streamer_worker.cli.formatting import date_text
from streamer_worker.cli.options import parse_duration
from streamer_worker.cli.run_times import parse_moment

PauseUntilOption = Annotated[
    datetime | None,
    typer.Option(
        "--until",
        parser=parse_moment,
        metavar="TIME",
        help="End the pause at this time, with its time zone: 2027-01-31T08:00Z.",
    ),
]
PauseForOption = Annotated[
    float | None,
    typer.Option(
        "--for", parser=parse_duration, metavar="TIME", help="End it after 10m, 2h or 1d."
    ),
]
ReasonOption = Annotated[
    str, typer.Option("--reason", metavar="WORDS", help="Why, for `pauses`, logs and `status`.")
]


def end_of_pause(until: datetime | None, seconds: float | None, now: datetime) -> datetime | None:
    """Return the end that --until or --for gives. None: there is none, until it is resumed.

    Raises typer.BadParameter for both, and for a time that has passed.
    """
    if until is not None and seconds is not None:
        raise typer.BadParameter("--until and --for cannot be combined")
    ends = until if seconds is None else now + timedelta(seconds=seconds)
    if ends is not None and ends <= now:
        raise typer.BadParameter(f"{date_text(ends)} has passed", param_hint="--until")
    return ends


def operator() -> str:
    """Return user@host. Without a name of the user in the system, `unknown`@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
