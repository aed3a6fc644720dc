"""The options of requests with a unique key."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

import typer

from streamer_store import AsyncRequest, Enqueued, OnConflict
from streamer_worker.cli.options import parse_duration


class ConflictChoice(StrEnum):
    """The values of --on-conflict."""

    KEEP = "keep"
    REPLACE_WAITING = "replace-waiting"

    @property
    def argument(self) -> OnConflict:
        """The value for `enqueue`."""
        return "keep" if self is ConflictChoice.KEEP else "replace_waiting"


UniqueKeyOption = Annotated[
    str | None,
    typer.Option(
        "--unique-key",
        metavar="KEY",
        help="Add no second request of the action and tenant with this key until it has ended.",
    ),
]
UniqueForOption = Annotated[
    float | None,
    typer.Option(
        "--unique-for",
        parser=parse_duration,
        metavar="TIME",
        help="Nor for 90s, 10m, 2h or 1d after it is COMPLETED, 30d at most.",
    ),
]
OnConflictOption = Annotated[
    ConflictChoice,
    typer.Option(
        "--on-conflict",
        metavar="CHOICE",
        case_sensitive=False,
        help="`keep` the request that has the key, or `replace-waiting`: put the new one in its"
        " place if it waits.",
    ),
]


def window_of(seconds: float | None) -> timedelta | None:
    """Return the window that --unique-for names."""
    return None if seconds is None else timedelta(seconds=seconds)


def conflict_note(stored: AsyncRequest) -> str | None:
    """Return what became of a request whose key had one already, in words. None: it had none."""
    match stored.enqueued:
        case Enqueued.EXISTS:
            return f"{stored.request_id} exists already, and is {stored.status}"
        case Enqueued.REPLACED:
            return f"{stored.request_id} waited, and was replaced"
    return None
