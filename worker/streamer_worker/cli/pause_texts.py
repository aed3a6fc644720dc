"""Pauses in words (pure)."""

from __future__ import annotations

from streamer_store import Pause, PauseKind
from streamer_worker.cli.formatting import date_text


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
