"""Options and helpers that several commands share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

import anyio
import typer

from streamer_store import AsyncRequest, Clock, Stores, SystemClock, Undecodable, open_stores
from streamer_store.times import NEVER, format_time
from streamer_worker.app import store_arguments
from streamer_worker.cli.output import say
from streamer_worker.sanitize import one_line
from streamer_worker.settings import CONFIG_VARIABLE, load_settings, seconds

Result = TypeVar("Result")

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar=CONFIG_VARIABLE,
        help="TOML file with settings; STREAMER_… variables go before it.",
        dir_okay=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
YesOption = Annotated[
    bool, typer.Option("--yes", "-y", help="Do not ask before more than one is changed.")
]
_TEXT = 60
_WALL = SystemClock()
RequestArgument = Annotated[str, typer.Argument(help="The request's id.")]
# Each may be as large as an item.
DOCUMENTS = frozenset({"payload", "result", "checkpoint", "progress_details"})


def with_stores(config: Path | None, work: Callable[[Stores], Awaitable[Result]]) -> Result:
    """Run `work` on the stores that the settings name."""
    settings = load_settings(config)

    async def main() -> Result:
        async with open_stores(**store_arguments(settings), report=_Reporter()) as stores:
            return await work(stores)

    return anyio.run(main)


class _Reporter:
    """Says of each item that cannot be decoded, once, what is wrong with it."""

    def __init__(self) -> None:
        self._said: set[tuple[str, str, str]] = set()

    def __call__(self, error: Undecodable) -> None:
        key = (error.table, error.key, error.reason)
        if key not in self._said:
            self._said.add(key)
            say(f"warning: {error}", err=True)


def moment(text: str) -> datetime:
    """Read `2h` as so long ago, or a time as ISO 8601 has it, in UTC unless it says otherwise."""
    ago = seconds(text)
    try:
        if isinstance(ago, float):
            return _WALL.now() - timedelta(seconds=ago)
        found = datetime.fromisoformat(text)
        found = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
        return found.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(f"{text!r} is neither 90m, 2h, 1d nor 2026-01-31T12:00") from error


SinceOption = Annotated[
    datetime | None,
    typer.Option(
        "--since", parser=moment, metavar="TIME", help="Only what came later: 90m, 2h, 2026-01-31."
    ),
]


def plain_fields(record: Any, *, without: Iterable[str] = ()) -> dict[str, Any]:
    """Return the fields of a record that are not None, times and sets as JSON can hold them."""
    leave = set(without)
    return {
        name: _plain(value)
        for name, value in asdict(record).items()
        if value is not None and name not in leave
    }


def brief(request: AsyncRequest) -> dict[str, Any]:
    """Return a request's fields without what may be large."""
    return plain_fields(request, without=DOCUMENTS)


def says(request: AsyncRequest) -> str:
    """Return what is to be said of it beside its status, in a line."""
    text = request.progress_message or ""
    if request.error is not None:
        text = f"{request.error_code}: {request.error}" if request.error_code else request.error
    return one_line(text, _TEXT)


def age(since: datetime | None, clock: Clock) -> str:
    """Return how long ago that was, in the one unit that fits."""
    if since is None or since == NEVER:
        return ""
    gone = max(0.0, (clock.now() - since).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if gone >= 2 * size:
            return f"{gone / size:.0f}{unit}"
    return f"{gone:.0f}s"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    return value
