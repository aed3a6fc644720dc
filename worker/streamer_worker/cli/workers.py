from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from streamer_store import NotFound, Stores, SystemClock, WorkerRow
from streamer_worker.cli.options import ConfigOption, JsonOption, plain_fields, with_stores
from streamer_worker.texts import readable

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


def workers(*, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """List the fleet: every worker that has a row in the table.

    The age of a beat is by this machine's clock; a worker is taken for dead when its row has
    stood still for the lease (16 s, unless set otherwise).
    """

    async def work(stores: Stores) -> list[WorkerRow]:
        return await stores.workers.list()

    rows = sorted(with_stores(config, work), key=lambda row: (row.started_at, row.worker_id))
    if as_json:
        typer.echo(json.dumps([plain_fields(row) for row in rows], indent=2, ensure_ascii=False))
    elif rows:
        _print(rows)
    else:
        typer.echo("no worker has a row")


def drain(
    worker_id: Annotated[str, typer.Argument(help="The worker's id, as `workers` lists it.")],
    *,
    config: ConfigOption = None,
) -> None:
    """Order a worker to finish what runs and to go, as SIGTERM does. It reads the order with
    its next heartbeat.
    """

    async def work(stores: Stores) -> bool:
        return await stores.workers.request_drain(worker_id)

    if not with_stores(config, work):
        raise NotFound("no worker has this id", operation="drain", key=worker_id)
    typer.echo(f"{worker_id} is ordered to drain")


def _print(rows: list[WorkerRow]) -> None:
    now = SystemClock().now()
    # The id is there to be copied: in a narrow terminal other columns wrap, it does not.
    whole = Column(_COLUMNS[0], min_width=max(len(row.worker_id) for row in rows))
    table = Table(whole, *_COLUMNS[1:], box=None, pad_edge=False)
    for row in rows:
        age = "" if row.seen_at is None else f"{(now - row.seen_at).total_seconds():.0f} s ago"
        cells = (
            row.worker_id,
            row.host,
            str(row.pid),
            row.release,
            f"{row.started_at:%Y-%m-%d %H:%M}",
            age,
            f"{row.in_flight}/{row.concurrency}",
            "draining" if row.draining or row.drain else "working",
            ", ".join(sorted(row.actions)),
        )
        table.add_row(*(Text(readable(cell)) for cell in cells))
    Console(soft_wrap=True).print(table)
