from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import anyio
import typer

from streamer_store import StoreError, StoreUnavailable
from streamer_worker.cli.options import ConfigOption, JsonOption
from streamer_worker.cli.output import (
    is_terminal,
    live_screen,
    print_empty_line,
    print_json,
    print_screen,
    spinner,
)
from streamer_worker.cli.waiting import Waiting, advising, place_of

if TYPE_CHECKING:
    from rich.console import RenderableType

    from streamer_worker.cli.status.finding import Finding
    from streamer_worker.cli.status.reading import SnapshotReader
    from streamer_worker.cli.status.snapshot import Snapshot
    from streamer_worker.settings import Settings

_EVERY: Final = 2.0
_MAX_AGE: Final = 300.0  # as the alert StreamerQueueTooOld
_INTERRUPTED: Final = 130


def _parse_age(text: str | float) -> float:
    """Return a duration in seconds. Typer also passes the default. Raises typer.BadParameter."""
    from streamer_worker.settings import seconds

    value = seconds(text)
    if not isinstance(value, float) or not 0 < value < math.inf:
        raise typer.BadParameter(f"{text!r} is not a duration such as 90s, 5m or 2h")
    return value


def status(
    *,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Draw the screen again until Ctrl-C.")
    ] = False,
    every: Annotated[
        float,
        typer.Option(min=0.5, max=3600, metavar="SECONDS", help="Pause between two screens."),
    ] = _EVERY,
    max_age: Annotated[
        float,
        typer.Option(
            "--max-age",
            parser=_parse_age,
            metavar="DURATION",
            help="How long a request may wait although it may run: 90s, 5m or 2h.",
            show_default="5m",
        ),
    ] = _MAX_AGE,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Print one screen about workers, queue and failures, and what is wrong.

    Exits with 0 if nothing is wrong, and with 1 if there is a problem or DynamoDB does not answer.
    A notice changes no exit code. With --watch, Ctrl-C ends it with the code of the last screen.
    Numbers are read up to a limit, which is shown as `>1,000`. Rates and failures are estimates.

    Example: `streamer-worker status --watch`
    """
    from streamer_worker.settings import load_settings

    view = _View(max_age=max_age, as_json=as_json)
    settings = load_settings(config)
    if not watch:
        with advising(place_of(settings)):
            anyio.run(_show_once, settings, view)
    else:
        try:
            anyio.run(_watch, settings, view, every)
        except KeyboardInterrupt:
            if view.healthy is None:
                raise typer.Exit(_INTERRUPTED) from None
    if not view.healthy:
        raise typer.Exit(1)


@dataclass(slots=True, kw_only=True)
class _View:
    """How a screen is judged and shown, and how the last one was judged. None: none yet."""

    max_age: float
    as_json: bool
    healthy: bool | None = None

    def json(self, snapshot: Snapshot) -> dict[str, Any]:
        """Return the JSON of a screen."""
        from streamer_worker.cli.status.as_json import json_value

        return json_value(snapshot, self._judge(snapshot))

    def screen(self, snapshot: Snapshot) -> RenderableType:
        """Return a screen."""
        from streamer_worker.cli.status.view import screen

        return screen(snapshot, self._judge(snapshot))

    def error_screen(self, error: StoreError) -> RenderableType:
        """Return the screen for a read that failed."""
        from streamer_worker.cli.status.view import error_screen

        self.healthy = False
        return error_screen(str(error))

    def error_json(self, error: StoreError) -> dict[str, Any]:
        """Return the JSON for a read that failed."""
        self.healthy = False
        return {"ok": False, "error": str(error)}

    def _judge(self, snapshot: Snapshot) -> list[Finding]:
        from streamer_worker.cli.status.finding import is_healthy
        from streamer_worker.cli.status.findings import findings_of

        findings = findings_of(snapshot, max_age=self.max_age)
        self.healthy = is_healthy(findings)
        return findings


async def _show_once(settings: Settings, view: _View) -> None:
    from streamer_worker.cli.status.reading import open_reader

    waiting = Waiting(place_of(settings))
    with waiting.begin(), spinner("Reading the tables"):
        async with open_reader(settings, observe=waiting.observe) as reader:
            waiting.restart()
            snapshot = await reader.read()
    if view.as_json:
        print_json(view.json(snapshot))
    else:
        print_screen(view.screen(snapshot))


async def _watch(settings: Settings, view: _View, every: float) -> None:
    from streamer_worker.cli.status.reading import open_reader

    async with open_reader(settings) as reader:
        if view.as_json:
            await _repeat(
                reader,
                every,
                show=lambda snapshot: print_json(view.json(snapshot), indent=None),
                show_error=lambda error: print_json(view.error_json(error), indent=None),
            )
        elif is_terminal():
            with live_screen() as live:
                await _repeat(
                    reader,
                    every,
                    show=lambda snapshot: live.update(view.screen(snapshot), refresh=True),
                    show_error=lambda error: live.update(view.error_screen(error), refresh=True),
                )
        else:
            await _repeat(
                reader,
                every,
                show=lambda snapshot: _print_block(view.screen(snapshot)),
                show_error=lambda error: _print_block(view.error_screen(error)),
            )


async def _repeat(
    reader: SnapshotReader,
    every: float,
    *,
    show: Callable[[Snapshot], object],
    show_error: Callable[[StoreError], object],
) -> None:
    """Read and show a snapshot for ever. An outage of DynamoDB is shown, and ends nothing."""
    while True:
        try:
            snapshot = await reader.read()
        except StoreUnavailable as error:
            show_error(error)
        else:
            show(snapshot)
        await anyio.sleep(every)


def _print_block(content: RenderableType) -> None:
    """Print a screen, and an empty line that ends it."""
    print_screen(content)
    print_empty_line()
