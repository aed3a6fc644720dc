from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Final, NoReturn

import anyio
import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from streamer_store import AsyncRequest, RequestStatus, Stores, SystemClock
from streamer_store.transitions import TERMINAL, WAITING
from streamer_worker.cli.formatting import duration_text, status_message, summary_fields
from streamer_worker.cli.ids import with_request
from streamer_worker.cli.live_workers import warn_if_it_waits
from streamer_worker.cli.options import (
    TIMED_OUT,
    ConfigOption,
    JsonOption,
    RequestArgument,
    TimeoutOption,
    with_stores,
)
from streamer_worker.cli.output import is_terminal, print_json, print_line, progress_bar

_READ_EVERY: Final = 0.5
_BAR_COLUMNS: Final = 20


def watch(
    request_id: RequestArgument,
    *,
    every: Annotated[
        float,
        typer.Option(min=0.1, metavar="SECONDS", help="Seconds between two reads of the request."),
    ] = _READ_EVERY,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Follow a request until it ends.

    On a terminal it shows a progress bar. Otherwise it prints one line for each change. Warns if
    the request waits and no live worker handles its action. Exits with 0 if the request is
    COMPLETED, with 1 if it ended otherwise or does not exist, and with 124 if it has not ended
    within --timeout.

    Example: `streamer-worker watch 3f6c1a2b --timeout 5m`
    """
    from streamer_worker.settings import load_settings

    lease = load_settings(config).presence.lease

    async def work(stores: Stores) -> AsyncRequest:
        whole_id, request = await with_request(stores, request_id, stores.requests.get)
        if request.status in WAITING:
            await warn_if_it_waits(stores, request, lease=lease, clock=SystemClock())
        if is_terminal() and not as_json:
            return await draw(stores, whole_id, every=every, timeout=timeout)
        show = _print_json if as_json else _LinePrinter()
        return await follow(stores, whole_id, show, every=every, timeout=timeout)

    exit_unless_completed(with_stores(config, work), timeout)


async def follow(
    stores: Stores,
    request_id: str,
    show: Callable[[AsyncRequest], object],
    *,
    every: float = _READ_EVERY,
    timeout: float | None = None,  # noqa: ASYNC109  the last state is returned, not an error
) -> AsyncRequest:
    """Call `show` with the request as it is, and after each change. Return it once it has ended.

    It is read each `every` seconds. After `timeout` seconds it is returned as it was last read.
    Raises NotFound.
    """
    request = await stores.requests.get(request_id)
    shown = summary_fields(request)
    show(request)
    with anyio.move_on_after(timeout):
        while request.status not in TERMINAL:
            await anyio.sleep(every)
            request = await stores.requests.get(request_id)
            if summary_fields(request) != shown:
                shown = summary_fields(request)
                show(request)
    return request


async def draw(
    stores: Stores,
    request_id: str,
    *,
    every: float = _READ_EVERY,
    timeout: float | None = None,  # noqa: ASYNC109  as in `follow`
    err: bool = False,
) -> AsyncRequest:
    """Do as `follow` does, with a progress bar on one line, on stderr if `err`."""
    columns = (
        TextColumn("{task.fields[status]:<10}"),
        BarColumn(bar_width=_BAR_COLUMNS),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn(
            "{task.description}",
            markup=False,
            table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
        ),
    )
    with progress_bar(*columns, err=err, transient=err, expand=True) as bar:
        task = bar.add_task("", total=1.0, status="")
        show = partial(_update, bar, task)
        return await follow(stores, request_id, show, every=every, timeout=timeout)


def exit_unless_completed(request: AsyncRequest, timeout: float | None) -> None:
    """Exit with 124 if the request has not ended, and with 1 if it has ended otherwise."""
    if request.status not in TERMINAL:
        _exit_after_timeout(request, timeout or 0.0)
    if request.status is not RequestStatus.COMPLETED:
        raise typer.Exit(1)


def _exit_after_timeout(request: AsyncRequest, seconds: float) -> NoReturn:
    print_line(
        f"{request.request_id} is {request.status} after {duration_text(seconds)} and goes on:"
        f" `streamer-worker watch {request.request_id}` follows it",
        err=True,
    )
    raise typer.Exit(TIMED_OUT)


def _update(bar: Progress, task: Any, request: AsyncRequest) -> None:
    bar.update(
        task,
        completed=request.progress,
        status=str(request.status),
        description=status_message(request),
    )


class _LinePrinter:
    """Prints a line for a request, unless the line before was the same."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, request: AsyncRequest) -> None:
        line = f"{request.status} {request.progress:.0%} {status_message(request)}".rstrip()
        if line != self._last:
            self._last = line
            print_line(line)


def _print_json(request: AsyncRequest) -> None:
    print_json(summary_fields(request), indent=None)
