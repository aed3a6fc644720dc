"""Options that several commands share, and the stores that they open."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import anyio
import typer

from streamer_store import Stores, SystemClock, Undecodable, open_stores
from streamer_worker.cli.output import print_line

if TYPE_CHECKING:
    from streamer_store.dynamo.client import CheckedClient

Result = TypeVar("Result")
_CLOCK: Final = SystemClock()
# As in `settings`, which takes long to import.
CONFIG_VARIABLE: Final = "STREAMER_CONFIG"

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar=CONFIG_VARIABLE,
        metavar="FILE",
        help="TOML file with settings. STREAMER_… variables override it.",
        dir_okay=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
YesOption = Annotated[
    bool,
    typer.Option("--yes", "-y", help="Do not ask for confirmation before changing several items."),
]
RequestArgument = Annotated[str, typer.Argument(help="Id of the request.")]
ActionOption = Annotated[
    str | None, typer.Option("--action", metavar="ACTION", help="Only requests with this action.")
]
TenantOption = Annotated[
    str | None, typer.Option("--tenant", metavar="ID", help="Only requests of this tenant.")
]

ConnectionOption = Annotated[
    str | None,
    typer.Option("--connection", metavar="ID", help="Only requests of this connection."),
]


def parse_time(text: str) -> datetime:
    """Parse a duration such as `2h` as that long ago, or a time in ISO 8601, in UTC by default.

    Raises typer.BadParameter.
    """
    from streamer_worker.settings import seconds

    duration = seconds(text)
    try:
        if isinstance(duration, float):
            return _CLOCK.now() - timedelta(seconds=duration)
        time = datetime.fromisoformat(text)
        time = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
        return time.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            f"{text!r} is neither a duration (90m, 2h, 1d) nor a time (2026-01-31T12:00)"
        ) from error


SinceOption = Annotated[
    datetime | None,
    typer.Option(
        "--since",
        parser=parse_time,
        metavar="TIME",
        help="Only requests created in the last 90m, 2h or 1d, or since 2026-01-31T12:00 (UTC).",
    ),
]


def with_stores(config: Path | None, work: Callable[[Stores], Awaitable[Result]]) -> Result:
    """Open the stores that the settings name, run `work` on them and return its result."""
    from streamer_worker.settings import load_settings, store_arguments

    settings = load_settings(config)

    async def main() -> Result:
        async with open_stores(**store_arguments(settings), report=_Reporter()) as stores:
            return await work(stores)

    return anyio.run(main)


def with_client(
    config: Path | None, work: Callable[[CheckedClient, str], Awaitable[Result]]
) -> Result:
    """Open a client for the tables that the settings name, and return the result of `work`.

    `work` gets the client and the prefix of the tables.
    """
    from streamer_store.dynamo.connecting import open_checked_client
    from streamer_worker.settings import load_settings

    settings = load_settings(config)

    async def main() -> Result:
        async with open_checked_client(
            endpoint_url=settings.endpoint_url, region=settings.region
        ) as client:
            return await work(client, settings.table_prefix)

    return anyio.run(main)


class _Reporter:
    """Prints a warning for each item that cannot be decoded, once per item and reason."""

    def __init__(self) -> None:
        self._reported: set[tuple[str, str, str]] = set()

    def __call__(self, error: Undecodable) -> None:
        key = (error.table, error.key, error.reason)
        if key not in self._reported:
            self._reported.add(key)
            print_line(f"warning: {error}", err=True)
