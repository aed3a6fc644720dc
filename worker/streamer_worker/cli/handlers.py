from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from pydantic.errors import PydanticUserError
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from streamer_worker.cli.options import ConfigOption, JsonOption
from streamer_worker.errors import StartError
from streamer_worker.handlers.definition import Handler, Kind
from streamer_worker.handlers.registry import GROUP, load_handlers
from streamer_worker.settings import Settings, load_settings
from streamer_worker.texts import readable

_COLUMNS = ("action", "payload", "runs in", "timeout", "retries", "at once", "installed by")


def handlers(
    action: Annotated[str | None, typer.Argument(help="Only this action.")] = None,
    *,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print each payload's JSON Schema, by action.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List the installed handlers, and check them as `run` does.

    Example: `streamer-worker handlers generate_report --schema`
    """
    settings = load_settings(config)
    found = _chosen(action)
    if schema:
        _tell({each.action: _schema(each) for each in found})
    elif as_json:
        _tell([_fields(each, settings) for each in found])
    elif found:
        _print(found, settings)
    else:
        typer.echo(f"no handlers: install a package with entry points of group {GROUP}")


def _chosen(action: str | None) -> list[Handler]:
    registry = load_handlers()
    if action is None:
        return [registry[each] for each in sorted(registry)]
    if action not in registry:
        raise StartError("there is no such handler:", [f"action {action!r} is not installed"])
    return [registry[action]]


def _schema(handler: Handler) -> dict[str, Any]:
    try:
        return handler.schema.json_schema()
    except PydanticUserError as error:
        return {"type": "object", "description": f"no JSON Schema: {error.message}"}


def _fields(handler: Handler, settings: Settings) -> dict[str, Any]:
    function = handler.function
    return {
        "action": handler.action,
        "distribution": handler.distribution,
        "module": getattr(function, "__module__", None),
        "function": getattr(function, "__qualname__", repr(function)),
        "runs_in": handler.kind,
        "payload": handler.schema.name,
        "timeout": handler.timeout or settings.handler.timeout,
        "retry_first": handler.retry.first,
        "retry_longest": handler.retry.longest,
        "max_concurrency": handler.max_concurrency,
        "at_once": _at_once(handler, settings),
        "schema": _schema(handler),
    }


def _at_once(handler: Handler, settings: Settings) -> int:
    """Return how many of its requests one worker runs at once, whatever else it runs."""
    limits = [settings.concurrency, handler.max_concurrency or settings.concurrency]
    if handler.kind is Kind.THREAD:
        limits.append(settings.handler.threads)
    if handler.kind is Kind.PROCESS:
        limits.append(settings.handler.processes)
    return min(limits)


def _tell(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _print(found: Sequence[Handler], settings: Settings) -> None:
    # The action is there to be copied: in a narrow terminal other columns wrap, it does not.
    whole = Column(_COLUMNS[0], min_width=max(len(each.action) for each in found))
    others = [Column(name, overflow="fold") for name in _COLUMNS[1:]]
    table = Table(whole, *others, box=None, pad_edge=False)
    for each in found:
        told = _fields(each, settings)
        cells = (
            told["action"],
            told["payload"],
            told["runs_in"],
            f"{told['timeout']:g} s",
            f"{told['retry_first']:g}-{told['retry_longest']:g} s",
            str(told["at_once"]),
            f"{told['distribution'] or 'unknown'} ({told['module']}:{told['function']})",
        )
        table.add_row(*(Text(readable(cell)) for cell in cells))
    Console(soft_wrap=True).print(table)
