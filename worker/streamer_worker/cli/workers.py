from __future__ import annotations

from typing import Annotated, Final

import typer

from streamer_store import NotFound, Stores, SystemClock, WorkerRow
from streamer_worker.cli.options import (
    ConfigOption,
    JsonOption,
    age,
    plain_fields,
    with_stores,
)
from streamer_worker.cli.output import print_table, say, tell_json

_COLUMNS = (
    "worker",
    "host",
    "pid",
    "release",
    "since",
    "last beat",
    "slots",
    "state",
    "actions",
)
_CELL_CHARS: Final = 1000  # a worker may have many actions


def workers(*, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """List the fleet: every worker that has a row in the table.

    The age of a beat is by this machine's clock; a worker is taken for dead when its row has
    stood still for the lease (16 s, unless set otherwise).

    Example: `streamer-worker workers --json`
    """

    async def work(stores: Stores) -> list[WorkerRow]:
        return await stores.workers.list()

    rows = sorted(with_stores(config, work), key=lambda row: (row.started_at, row.worker_id))
    if as_json:
        tell_json([plain_fields(row) for row in rows])
    elif rows:
        clock = SystemClock()
        print_table(_COLUMNS, (_row(row, clock) for row in rows), cell_chars=_CELL_CHARS)
    else:
        say("no worker has a row")


def drain(
    worker_id: Annotated[str, typer.Argument(help="The worker's id, as `workers` lists it.")],
    *,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Order a worker to finish what runs and to go, as SIGTERM does.

    It reads the order with its next heartbeat. Exits with 1 when no worker has this id.

    Example: `streamer-worker drain 20260131T120000Z-0c2f8d10-4b7a`
    """

    async def work(stores: Stores) -> bool:
        return await stores.workers.request_drain(worker_id)

    if not with_stores(config, work):
        raise NotFound("no worker has this id", operation="drain", key=worker_id)
    if as_json:
        tell_json({"worker_id": worker_id, "ordered": "drain"})
    else:
        say(f"{worker_id} is ordered to drain")


def _row(row: WorkerRow, clock: SystemClock) -> tuple[str, ...]:
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
