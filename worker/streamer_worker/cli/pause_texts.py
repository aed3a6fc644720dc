"""Pauses in words (pure)."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from streamer_store import AsyncRequest, Pause, PauseKind
from streamer_worker.cli.formatting import date_text, json_fields


def pause_name(pause: Pause) -> str:
    """Return what is paused."""
    return "everything" if pause.kind is PauseKind.ALL else f"{pause.kind} {pause.name}"


def pause_end(pause: Pause) -> str:
    """Return when the pause ends."""
    if pause.until is not None:
        return f"until {date_text(pause.until)}"
    return "until one succeeds" if pause.kind is PauseKind.FUSE else "until resumed"


def pause_text(pause: Pause) -> str:
    """Return what is paused, until when, by whom and why."""
    why = f": {pause.reason}" if pause.reason else ""
    return f"{pause_name(pause)} is paused {pause_end(pause)}, by {pause.by}{why}"


def paused_text(pause: Pause, replaced: Pause | None, now: datetime) -> str:
    """Return what has been paused, until when and by whom, and the terms of the pause before."""
    was = "" if replaced is None or replaced.is_over(now) else f" (before: {_terms(replaced)})"
    return f"paused {pause_name(pause)}, {_terms(pause)}{was}"


def _terms(pause: Pause) -> str:
    return f"{pause_end(pause)}, by {pause.by}"


def end_command(pause: Pause) -> str:
    """Return the command that ends the pause."""
    name = shlex.quote(pause.name)
    if pause.kind is PauseKind.ALL:
        arguments = "resume"
    elif pause.kind is PauseKind.SCHEDULE:
        arguments = f"schedules resume {name}"
    elif pause.kind is PauseKind.TENANT:
        arguments = f"resume --tenant {name}"
    else:
        arguments = f"resume --action {name}"
    return f"`streamer-worker {arguments}`"


def pause_of(request: AsyncRequest, pauses: Iterable[Pause], now: datetime) -> Pause | None:
    """Return a pause in force that holds the request back, or None."""
    for pause in pauses:
        if pause.covers(request.action, request.tenant_id) and not pause.is_over(now):
            return pause
    return None


def pause_fields(pause: Pause) -> dict[str, Any]:
    """Return the pause as JSON shows it."""
    return json_fields(pause, without=["stored"])
