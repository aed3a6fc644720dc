from __future__ import annotations

from typing import Annotated, Final

import typer

from streamer_store import NotFound, Stores, SystemClock, WorkerRow
from streamer_worker.cli.formatting import age, json_fields
from streamer_worker.cli.options import ConfigOption, JsonOption, with_stores
from streamer_worker.cli.output import print_json, print_line, print_table

_COLUMNS = (
    "worker",
    "host",
    "pid",
    "release",
    "started",
    "heartbeat",
    "slots",
    "state",
    "actions",
)
_CELL_CHARS: Final = 1000  # a worker may have many actions


def workers(*, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """List the workers that have a row in the workers table.

    The time since a worker's last heartbeat is measured by this machine's clock. The fleet
    declares a worker dead when its row has not changed for `presence.lease` (16 s by default).

    Example: `streamer-worker workers --json`
    """

    async def work(stores: Stores) -> list[WorkerRow]:
        return await stores.workers.list()

    rows = sorted(with_stores(config, work), key=lambda row: (row.started_at, row.worker_id))
    if as_json:
        print_json([json_fields(row) for row in rows])
    elif rows:
        clock = SystemClock()
        print_table(_COLUMNS, (_cells(row, clock) for row in rows), cell_chars=_CELL_CHARS)
    else:
        print_line("no workers")


def drain(
    worker_id: Annotated[
        str, typer.Argument(help="Id of the worker; `streamer-worker workers` lists them.")
    ],
    *,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Ask a worker to drain: it finishes its running requests and exits, as on SIGTERM.

    The worker starts to drain at its next heartbeat. Exits with 1 if no worker has this id.

    Example: `streamer-worker drain 20260131T120000Z-0c2f8d10-4b7a`
    """

    async def work(stores: Stores) -> bool:
        return await stores.workers.request_drain(worker_id)

    if not with_stores(config, work):
        raise NotFound("no worker has this id", operation="drain", key=worker_id)
    if as_json:
        print_json({"worker_id": worker_id, "drain_requested": True})
    else:
        print_line(f"{worker_id} will drain at its next heartbeat")


def _cells(row: WorkerRow, clock: SystemClock) -> tuple[str, ...]:
    return (
        row.worker_id,
        row.host,
        str(row.pid),
        row.release,
        f"{row.started_at:%Y-%m-%d %H:%M}",
        f"{age(row.seen_at, clock)} ago" if row.seen_at else "",
        f"{row.in_flight}/{row.concurrency}",
        "draining" if row.draining or row.drain else "working",
        ", ".join(sorted(row.actions)),
    )
