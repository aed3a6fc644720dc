"""Options that several commands share, and the stores that they open."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import anyio
import typer

from streamer_store import (
    RequestStatus,
    Stores,
    SystemClock,
    TableNames,
    Undecodable,
    open_stores,
)
from streamer_worker.cli.output import print_line
from streamer_worker.cli.waiting import CALL_TIMEOUT, Waiting, advising, place_of

if TYPE_CHECKING:
    from streamer_store.dynamo.client import CheckedClient

Result = TypeVar("Result")
_CLOCK: Final = SystemClock()
_LONGEST: Final = 100 * 365 * 86_400
TIMED_OUT: Final = 124
"""The exit code after --timeout, as of the program `timeout`."""
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
HandlersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--handlers",
        metavar="MODULE:NAME",
        help="A handler or HandlerGroup without an installed package; MODULE alone means all"
        " that it has. May be repeated.",
    ),
]
AppDirOption = Annotated[
    Path,
    typer.Option(
        "--app-dir",
        metavar="DIR",
        help="Directory from which --handlers are imported.",
    ),
]
APP_DIR: Final = Path()
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
YesOption = Annotated[
    bool,
    typer.Option("--yes", "-y", help="Do not ask for confirmation."),
]
RequestArgument = Annotated[
    str, typer.Argument(help="Id of the request, or the first characters of it.")
]
UserOption = Annotated[
    str | None, typer.Option("--user", metavar="ID", help="Only requests of this user.")
]
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


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as `90s` or `2m`. Raises typer.BadParameter."""
    from streamer_worker.settings import seconds

    duration = seconds(text)
    try:
        number = float(duration)  # type: ignore[arg-type]
    except ValueError:
        number = 0.0
    if not 0 < number < _LONGEST:
        raise typer.BadParameter(f"{text!r} is not a duration (30s, 5m, 1.5h, 2d)")
    return number


def status_option(statuses: Iterable[RequestStatus]) -> Any:
    """Return the option that selects requests by these statuses, in upper or lower case."""
    return typer.Option(
        "--status",
        metavar="STATUS",
        case_sensitive=False,
        help=f"Only requests in this status: {', '.join(statuses)}. Repeat it for several.",
    )


TimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        parser=parse_duration,
        metavar="TIME",
        help="Stop waiting after 30s or 5m, with exit code 124. The request goes on.",
    ),
]
UntilOption = Annotated[
    datetime | None,
    typer.Option(
        "--until",
        parser=parse_time,
        metavar="TIME",
        help="Only requests created more than 90m, 2h or 1d ago, or until 2026-01-31T12:00 (UTC).",
    ),
]
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
    """Open the stores that the settings name, run `work` on them and return its result.

    A call that DynamoDB does not answer is reported after 2 s, and ends after 20 s.
    """
    from streamer_worker.settings import load_settings, store_arguments

    settings = load_settings(config)
    place = place_of(settings)

    async def main() -> Result:
        waiting = Waiting(place)
        with waiting.begin():
            async with open_stores(
                **store_arguments(settings),
                call_timeout=CALL_TIMEOUT,
                report=_Reporter(),
                observe=waiting.observe,
            ) as stores:
                waiting.restart()
                return await work(stores)

    with advising(place):
        return anyio.run(main)


def with_client(
    config: Path | None, work: Callable[[CheckedClient, TableNames], Awaitable[Result]]
) -> Result:
    """Open a client for the tables that the settings name, and return the result of `work`.

    `work` gets the client and the names of the tables. Waiting is reported as by `with_stores`.
    """
    from streamer_store.dynamo.connecting import open_checked_client
    from streamer_worker.settings import load_settings

    settings = load_settings(config)
    place = place_of(settings)

    async def main() -> Result:
        waiting = Waiting(place)
        with waiting.begin():
            async with open_checked_client(
                endpoint_url=settings.endpoint_url,
                region=settings.region,
                call_timeout=CALL_TIMEOUT,
                observe=waiting.observe,
            ) as client:
                waiting.restart()
                return await work(client, settings.tables)

    with advising(place):
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
