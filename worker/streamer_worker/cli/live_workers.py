"""Warnings about a request that no live worker runs now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Final

import anyio

from streamer_store import AsyncRequest, Clock, FleetRows, Pause, StoreError, Stores, WorkerRow
from streamer_store.pause import CONTROL_PAUSE, pauses_of
from streamer_worker.cli.output import print_line
from streamer_worker.cli.pause_texts import end_command, pause_of, pause_text

_LEASES: Final = 2
_READ_SECONDS: Final = 3.0
_LISTED: Final = 5


async def warn_if_it_waits(
    stores: Stores, request: AsyncRequest, *, lease: float, clock: Clock
) -> None:
    """Print a warning on stderr if no live worker handles the request's action, or it is paused.

    `lease`: the setting `presence.lease`, in seconds. Prints nothing if the rows of the workers
    cannot be read within 3 s, or may not be read.
    """
    fleet: FleetRows | None = None
    with anyio.move_on_after(_READ_SECONDS):
        try:
            fleet = await stores.workers.read_all()
        except StoreError:
            return
    if fleet is None:
        return
    now = clock.now()
    if warning := handler_warning(fleet.workers, request.action, now, lease=lease):
        print_line(f"warning: {warning}", err=True)
    _warn_of(pauses_of(fleet.controls.get(CONTROL_PAUSE), lambda _: None), request, now)


async def warn_if_paused(stores: Stores, request: AsyncRequest, clock: Clock) -> None:
    """Print a warning on stderr if a pause holds the request back.

    Prints nothing if the pauses cannot be read within 3 s, or may not be read.
    """
    with anyio.move_on_after(_READ_SECONDS), suppress(StoreError):
        _warn_of(await stores.pauses.read_all(), request, clock.now())


def _warn_of(pauses: Sequence[Pause], request: AsyncRequest, now: datetime) -> None:
    pause = pause_of(request, pauses, now)
    if pause is not None:
        text = f"{pause_text(pause)}. {end_command(pause)} ends it"
        print_line(f"warning: {text}", err=True)


def handler_warning(
    rows: Sequence[WorkerRow], action: str, now: datetime, *, lease: float
) -> str | None:
    """Return a warning if no live worker has a handler for the action, or None (pure)."""
    live = live_rows(rows, now, lease=lease)
    if not live:
        return "no worker is alive. The request waits until one starts"
    unknown = unknown_action(live, action)
    return None if unknown is None else f"{unknown}. The request waits for one"


def live_rows(rows: Iterable[WorkerRow], now: datetime, *, lease: float) -> list[WorkerRow]:
    """Return the rows of the workers that are alive (pure).

    A worker is alive if it does not drain, and its last heartbeat is younger than two leases by
    this machine's clock.
    """
    oldest = now - timedelta(seconds=_LEASES * lease)
    return [
        row
        for row in rows
        if not (row.draining or row.drain) and row.seen_at is not None and row.seen_at > oldest
    ]


def unknown_action(live: Sequence[WorkerRow], action: str) -> str | None:
    """Return that no live worker handles the action, with a hint, or None if one does (pure)."""
    handled = sorted(frozenset().union(*(row.actions for row in live)))
    if action in handled:
        return None
    if close := get_close_matches(action, handled, n=1):
        hint = f"did you mean {close[0]!r}?"
    elif handled:
        more = ", …" if len(handled) > _LISTED else ""
        hint = f"they handle {', '.join(handled[:_LISTED])}{more}"
    else:
        hint = "they handle no action"
    return f"no live worker handles the action {action!r} ({hint})"
