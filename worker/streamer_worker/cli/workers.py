from __future__ import annotations

from typing import Annotated, Final

import typer

from streamer_store import FleetRows, NotFound, Stores, SystemClock, WorkerRow
from streamer_store.pause import CONTROL_PAUSE, pauses_of
from streamer_worker.cli.columns import WIDE, Cell, Column, shortened_workers
from streamer_worker.cli.formatting import age, counted, json_fields
from streamer_worker.cli.ids import with_worker
from streamer_worker.cli.options import ConfigOption, JsonOption, with_stores
from streamer_worker.cli.output import print_json, print_line, print_rows
from streamer_worker.cli.pause_texts import pause_text

_COLUMNS: Final = (
    Column(name="worker"),
    Column(name="host", can_cut=True),
    Column(name="pid"),
    Column(name="release", can_cut=True),
    Column(name="started", from_width=WIDE),
    Column(name="heartbeat"),
    Column(name="slots"),
    Column(name="state"),
    Column(name="handles", to_width=WIDE - 1),
    Column(name="actions", can_cut=True, from_width=WIDE),
)


def workers(*, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """List the workers that have a row in the workers table.

    A narrow terminal shows how many actions a worker handles, in place of their names. The time
    since a worker's last heartbeat is measured by this machine's clock. The fleet declares a
    worker dead when its row has not changed for `presence.lease` (16 s by default).

    Example: `streamer-worker workers --json`
    """

    async def work(stores: Stores) -> FleetRows:
        return await stores.workers.read_all()

    fleet = with_stores(config, work)
    rows = sorted(fleet.workers, key=lambda row: (row.started_at, row.worker_id))
    if as_json:
        print_json([json_fields(row) for row in rows])
    elif rows:
        clock = SystemClock()
        print_rows(_COLUMNS, [_cells(row, clock) for row in rows], shorten=shortened_workers)
    else:
        print_line("no workers")
    if not as_json:
        _print_pauses(fleet)


def drain(
    worker_id: Annotated[
        str,
        typer.Argument(
            help="Id of the worker, or the short one that `streamer-worker workers` and the log"
            " show."
        ),
    ],
    *,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Ask a worker to drain: it finishes its running requests and exits, as on SIGTERM.

    The worker starts to drain at its next heartbeat. Exits with 1 if no worker has this id, or
    if several begin with it.

    Example: `streamer-worker drain 20260131T120000Z-0c2f8d10-4b7a`
    """

    async def work(stores: Stores) -> str | None:
        return await with_worker(stores, worker_id, stores.workers.request_drain)

    whole_id = with_stores(config, work)
    if whole_id is None:
        raise NotFound("no worker has this id", operation="drain", key=worker_id)
    if as_json:
        print_json({"worker_id": whole_id, "drain_requested": True})
    else:
        print_line(f"{whole_id} will drain at its next heartbeat")


def _print_pauses(fleet: FleetRows) -> None:
    """Print what is paused, on stderr. `pauses` reports entries that cannot be decoded."""
    now = SystemClock().now()
    for pause in pauses_of(fleet.controls.get(CONTROL_PAUSE), lambda _: None):
        if not pause.is_over(now):
            print_line(pause_text(pause), err=True)


def _cells(row: WorkerRow, clock: SystemClock) -> tuple[Cell, ...]:
    is_draining = row.draining or row.drain
    return (
        row.worker_id,
        row.host,
        str(row.pid),
        row.release,
        f"{row.started_at:%Y-%m-%dT%H:%MZ}",
        age(row.seen_at, clock),
        f"{row.in_flight}/{row.concurrency}",
        ("draining", "yellow") if is_draining else "working",
        counted(len(row.actions), "action"),
        ",".join(sorted(row.actions)),
    )
