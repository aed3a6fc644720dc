from __future__ import annotations

from typing import Annotated, Any

import typer
from pydantic.errors import PydanticUserError

from streamer_worker.cli.options import ConfigOption, JsonOption
from streamer_worker.cli.output import print_table, say, tell_json
from streamer_worker.errors import StartError
from streamer_worker.handlers.definition import Handler, Kind
from streamer_worker.handlers.registry import GROUP, load_handlers
from streamer_worker.settings import Settings, load_settings

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
        tell_json({each.action: _schema(each) for each in found})
    elif as_json:
        tell_json([_fields(each, settings) for each in found])
    elif found:
        print_table(_COLUMNS, (_row(_fields(each, settings)) for each in found))
    else:
        say(f"no handlers: install a package with entry points of group {GROUP}")


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


def _row(found: dict[str, Any]) -> tuple[str, ...]:
    return (
        found["action"],
        found["payload"],
        found["runs_in"],
        f"{found['timeout']:g} s",
        f"{found['retry_first']:g}-{found['retry_longest']:g} s",
        str(found["at_once"]),
        f"{found['distribution'] or 'unknown'} ({found['module']}:{found['function']})",
    )
