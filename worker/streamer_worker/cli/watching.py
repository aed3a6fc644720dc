from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Final

import anyio
import typer
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from streamer_store import AsyncRequest, RequestStatus, Stores
from streamer_store.transitions import TERMINAL
from streamer_worker.cli.options import (
    ConfigOption,
    JsonOption,
    RequestArgument,
    brief,
    says,
    with_stores,
)
from streamer_worker.cli.output import is_terminal, progress_bar, say, tell_json

_LOOK_AGAIN: Final = 0.5


def watch(
    request_id: RequestArgument,
    *,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = _LOOK_AGAIN,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Follow a request until it ends: a bar on a terminal, else a line for each change.

    Exits with 0 when it has COMPLETED, with 1 when it ended otherwise or there is none.

    Example: `streamer-worker watch 3f6c… --json`
    """

    async def work(stores: Stores) -> AsyncRequest:
        changes = changes_of(stores, request_id, every)
        if is_terminal() and not as_json:
            return await _draw(changes)
        last: AsyncRequest | None = None
        async for request in changes:
            last = request
            if as_json:
                tell_json(brief(request), indent=None)
            else:
                say(_line(request))
        assert last is not None  # noqa: S101  there is at least one, or NotFound
        return last

    last = with_stores(config, work)
    if last.status is not RequestStatus.COMPLETED:
        raise typer.Exit(1)


async def changes_of(
    stores: Stores, request_id: str, every: float = _LOOK_AGAIN
) -> AsyncIterator[AsyncRequest]:
    """Yield the request as it is, and after each change, to its end. Raises NotFound."""
    last = None
    while True:
        request = await stores.requests.get(request_id)
        if last is None or brief(request) != brief(last):
            yield request
        if request.status in TERMINAL:
            return
        last = request
        await anyio.sleep(every)


async def _draw(changes: AsyncIterator[AsyncRequest]) -> AsyncRequest:
    columns = (
        TextColumn("{task.fields[status]:<10}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    last: AsyncRequest | None = None
    with progress_bar(*columns) as bar:
        task = bar.add_task("", total=1.0, status="")
        async for request in changes:
            last = request
            bar.update(
                task,
                completed=request.progress,
                status=str(request.status),
                description=says(request),
            )
    assert last is not None  # noqa: S101  as above
    return last


def _line(request: AsyncRequest) -> str:
    return f"{request.status} {request.progress:.0%} {says(request)}".rstrip()
