"""Options and helpers that several commands share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import anyio
import typer

from streamer_store import Stores, open_stores
from streamer_store.times import format_time
from streamer_worker.app import store_arguments
from streamer_worker.settings import CONFIG_VARIABLE, load_settings

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


def with_stores(config: Path | None, work: Callable[[Stores], Awaitable[Result]]) -> Result:
    """Run `work` on the stores that the settings name."""
    settings = load_settings(config)

    async def main() -> Result:
        async with open_stores(**store_arguments(settings)) as stores:
            return await work(stores)

    return anyio.run(main)


def plain_fields(record: Any) -> dict[str, Any]:
    """Return the fields of a record that are not None, times and sets as JSON can hold them."""
    return {name: _plain(value) for name, value in asdict(record).items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    return value
