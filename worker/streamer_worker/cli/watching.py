from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Final

import anyio
import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from streamer_store import AsyncRequest, RequestStatus, Stores
from streamer_store.transitions import TERMINAL
from streamer_worker.cli.formatting import status_message, summary_fields
from streamer_worker.cli.options import ConfigOption, JsonOption, RequestArgument, with_stores
from streamer_worker.cli.output import is_terminal, print_json, print_line, progress_bar

_READ_EVERY: Final = 0.5


def watch(
    request_id: RequestArgument,
    *,
    every: Annotated[
        float,
        typer.Option(min=0.1, metavar="SECONDS", help="Seconds between two reads of the request."),
    ] = _READ_EVERY,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Follow a request until it ends.

    On a terminal it shows a progress bar. Otherwise it prints one line for each change. Exits
    with 0 if the request is COMPLETED, and with 1 if it ended otherwise or does not exist.

    Example: `streamer-worker watch 3f6c… --json`
    """

    async def work(stores: Stores) -> AsyncRequest:
        if is_terminal() and not as_json:
            return await _draw(stores, request_id, every)
        return await follow(stores, request_id, _print_json if as_json else _print, every=every)

    request = with_stores(config, work)
    if request.status is not RequestStatus.COMPLETED:
        raise typer.Exit(1)


async def follow(
    stores: Stores,
    request_id: str,
    show: Callable[[AsyncRequest], object],
    *,
    every: float = _READ_EVERY,
) -> AsyncRequest:
    """Call `show` with the request as it is, and after each change. Return it once it has ended.

    It is read each `every` seconds. Raises NotFound.
    """
    shown: dict[str, Any] | None = None
    while True:
        request = await stores.requests.get(request_id)
        if summary_fields(request) != shown:
            shown = summary_fields(request)
            show(request)
        if request.status in TERMINAL:
            return request
        await anyio.sleep(every)


async def _draw(stores: Stores, request_id: str, every: float) -> AsyncRequest:
    columns = (
        TextColumn("{task.fields[status]:<10}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with progress_bar(*columns) as bar:
        task = bar.add_task("", total=1.0, status="")
        return await follow(stores, request_id, partial(_update, bar, task), every=every)


def _update(bar: Progress, task: Any, request: AsyncRequest) -> None:
    bar.update(
        task,
        completed=request.progress,
        status=str(request.status),
        description=status_message(request),
    )


def _print(request: AsyncRequest) -> None:
    line = f"{request.status} {request.progress:.0%} {status_message(request)}"
    print_line(line.rstrip())


def _print_json(request: AsyncRequest) -> None:
    print_json(summary_fields(request), indent=None)
