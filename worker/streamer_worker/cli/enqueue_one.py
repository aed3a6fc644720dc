"""`enqueue` of one request: its payload, the warning about workers, and `--wait`."""

from __future__ import annotations

import select
import stat
from datetime import datetime, timedelta
from os import fstat
from threading import Timer
from typing import Any, Final

from streamer_store import (
    AsyncRequest,
    Enqueued,
    InvalidInput,
    OnConflict,
    StoreError,
    Stores,
    SystemClock,
    ValidationError,
)
from streamer_worker.cli.formatting import json_fields
from streamer_worker.cli.line_source import standard_input
from streamer_worker.cli.live_workers import warn_if_it_waits
from streamer_worker.cli.options import ConfigOption, with_stores
from streamer_worker.cli.output import is_terminal, print_json, print_line
from streamer_worker.cli.request_lines import MAX_LINE_BYTES, parse_object
from streamer_worker.cli.run_times import due_note
from streamer_worker.cli.showing import print_request
from streamer_worker.cli.unique_options import conflict_note
from streamer_worker.cli.watching import draw, exit_unless_completed, follow

_PATIENCE: Final = 2.0
_READING: Final = "reading the payload from standard input, until it ends"


def read_payload(text: str | None) -> dict[str, Any]:
    """Return the payload that `--payload` gives, or else standard input.

    `text`: the option's value. `-` reads standard input until it ends. None reads it too if it
    is a pipe or a file, and an empty one is an empty payload. Raises ValidationError;
    InvalidInput if a pipe stays open for 2 s without data, as under some supervisors and `ssh`.
    """
    if text is not None:
        return parse_object("payload", _stdin_text() if text == "-" else text)
    if not _is_piped():
        return {}
    piped = _stdin_text()
    return parse_object("payload", piped) if piped.strip() else {}


def enqueue_one(
    request: AsyncRequest,
    config: ConfigOption,
    *,
    run_at: datetime | None,
    delay: timedelta | None,
    beyond_a_year: bool,
    on_conflict: OnConflict,
    wait: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Enqueue the request, print it, and follow it to its end if `wait`.

    Exits with 1 if it then ends otherwise than COMPLETED, and with 124 after `timeout` seconds.
    """
    from streamer_worker.settings import load_settings

    lease = load_settings(config).presence.lease

    enqueued: list[str] = []

    async def work(stores: Stores) -> AsyncRequest:
        stored = await stores.requests.enqueue(
            request,
            run_at=run_at,
            delay=delay,
            beyond_a_year=beyond_a_year,
            on_conflict=on_conflict,
        )
        enqueued.append(stored.request_id)
        clock = SystemClock()
        if not as_json:
            print_line(stored.request_id)
            if note := conflict_note(stored):
                print_line(note, err=True)
            if (run_at or delay) is not None and stored.enqueued is not Enqueued.EXISTS:
                print_line(f"it {due_note(stored.retry_after, clock)}", err=True)
        await warn_if_it_waits(stores, stored, lease=lease, clock=clock)
        return await _followed(stores, stored, timeout, as_json=as_json) if wait else stored

    try:
        latest = with_stores(config, work)
    except (StoreError, KeyboardInterrupt):
        for request_id in enqueued:
            print_line(f"{request_id} was enqueued, and goes on", err=True)
        raise
    if as_json:
        print_json(json_fields(latest))
    elif wait:
        print_request(latest)
    if wait:
        exit_unless_completed(latest, timeout)


async def _followed(
    stores: Stores,
    stored: AsyncRequest,
    timeout: float | None,  # noqa: ASYNC109  the last state is returned, not an error
    *,
    as_json: bool,
) -> AsyncRequest:
    if is_terminal(err=True) and not as_json:
        return await draw(stores, stored.request_id, timeout=timeout, err=True)
    return await follow(stores, stored.request_id, _show_nothing, timeout=timeout)


def _is_piped() -> bool:
    """Return whether standard input is a file, or a pipe that has data or has ended.

    Raises InvalidInput for a pipe that has neither within 2 s.
    """
    try:
        stdin = standard_input()
        mode = fstat(stdin.fileno()).st_mode
    except (OSError, ValueError):  # it is closed
        return False
    if stat.S_ISREG(mode):
        return True
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):  # a terminal, or /dev/null
        return False
    ready, _, _ = select.select([stdin], [], [], _PATIENCE)
    if not ready:
        raise InvalidInput(
            "standard input is a pipe without data: give --payload '{}' for an empty payload,"
            " or --payload - to wait for the data"
        )
    return True


def _stdin_text() -> str:
    """Read standard input to its end. Says so on stderr if that takes longer than 2 s."""
    note = Timer(_PATIENCE, print_line, [_READING], {"err": True})
    note.daemon = True
    note.start()
    try:
        data = standard_input().read(MAX_LINE_BYTES + 1)
        if len(data) > MAX_LINE_BYTES:
            raise ValidationError("payload", f"longer than {MAX_LINE_BYTES} bytes")
        return data.decode()
    except (OSError, ValueError) as error:  # it is closed, a directory, or not UTF-8
        raise ValidationError("payload", f"cannot be read from standard input: {error}") from error
    finally:
        note.cancel()


def _show_nothing(request: AsyncRequest) -> None:
    del request
