from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamer_worker.cli.formatting import counted
from streamer_worker.cli.options import (
    APP_DIR,
    AppDirOption,
    ConfigOption,
    HandlersOption,
    JsonOption,
)
from streamer_worker.cli.output import print_json, print_line, print_table
from streamer_worker.errors import StartError

if TYPE_CHECKING:
    from streamer_worker.handlers.definition import Handler
    from streamer_worker.handlers.registry import Registry
    from streamer_worker.schedules.definition import Definitions
    from streamer_worker.settings import Settings

_COLUMNS = (
    "action",
    "payload",
    "runs in",
    "timeout",
    "retry delay",
    "concurrency",
    "limits",
    "schedules",
    "installed by",
)


def handlers(
    action: Annotated[str | None, typer.Argument(help="Only the handler of this action.")] = None,
    *,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of each payload, by action.")
    ] = False,
    named: HandlersOption = None,
    app_dir: AppDirOption = APP_DIR,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List the installed handlers, after the checks that `run` makes when it loads them.

    Also checks the schedules of handlers and settings.

    Example: `streamer-worker handlers generate_report --schema`, or `streamer-worker handlers
    --handlers hello` for a file hello.py
    """
    from streamer_worker.cli.loading import find_checked_handlers, load_settings_of_worker
    from streamer_worker.handlers.registry import INSTALL_HANDLERS, NO_HANDLERS
    from streamer_worker.intake.action_settings import with_action_settings
    from streamer_worker.schedules.resolving import resolve_schedules

    settings = load_settings_of_worker(config, named, app_dir)
    registry = find_checked_handlers(named, app_dir, settings)
    schedules = resolve_schedules(settings.schedules, registry)
    handlers = with_action_settings(registry, settings)
    selected = _select(action, handlers)
    if schema:
        print_json({handler.action: _json_schema(handler) for handler in selected})
    elif as_json:
        print_json([_fields(handler, settings, schedules) for handler in selected])
    elif selected:
        print_table(
            _COLUMNS, (_cells(_fields(handler, settings, schedules)) for handler in selected)
        )
    else:
        print_line(f"{NO_HANDLERS}: {INSTALL_HANDLERS}")


def _select(action: str | None, registry: Registry) -> list[Handler]:
    if action is None:
        return [registry[name] for name in sorted(registry)]
    if action not in registry:
        installed = ", ".join(sorted(registry)) or "none"
        raise StartError(
            "there is no such handler:",
            [f"action {action!r} is not installed; installed actions: {installed}"],
        )
    return [registry[action]]


def _json_schema(handler: Handler) -> dict[str, Any]:
    from pydantic.errors import PydanticUserError

    try:
        return handler.schema.json_schema()
    except PydanticUserError as error:
        return {"type": "object", "description": f"no JSON Schema: {error.message}"}


def _fields(handler: Handler, settings: Settings, schedules: Definitions) -> dict[str, Any]:
    from streamer_worker.intake.action_settings import limits_as_options

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
        **limits_as_options(handler.limits),
        "pause_after_failures": handler.fuse and handler.fuse.failures,
        "effective_concurrency": _effective_concurrency(handler, settings),
        "schedules": {
            name: f"{one.expression.text} {one.expression.timezone}"
            for name, one in sorted(schedules.items())
            if one.action == handler.action
        },
        "schema": _json_schema(handler),
    }


def _effective_concurrency(handler: Handler, settings: Settings) -> int:
    """Return how many requests of this action an otherwise idle worker runs at once."""
    from streamer_worker.handlers.definition import Kind

    limits = [settings.concurrency, handler.limits.max_concurrency or settings.concurrency]
    if handler.kind is Kind.THREAD:
        limits.append(settings.handler.threads)
    if handler.kind is Kind.PROCESS:
        limits.append(settings.handler.processes)
    return min(limits)


def _cells(fields: dict[str, Any]) -> tuple[str, ...]:
    return (
        fields["action"],
        fields["payload"],
        fields["runs_in"],
        f"{fields['timeout']:g} s",
        f"{fields['retry_first']:g}-{fields['retry_longest']:g} s",
        str(fields["effective_concurrency"]),
        ", ".join(_limits(fields)),
        ", ".join(fields["schedules"]),
        f"{fields['distribution'] or 'unknown'} ({fields['module']}:{fields['function']})",
    )


def _limits(fields: dict[str, Any]) -> Iterator[str]:
    """Yield what limits the action besides the concurrency of a worker."""
    if fields["max_concurrency"] is not None and fields["max_concurrency_scope"] == "fleet":
        yield f"{fields['max_concurrency']} in the fleet"
    if fields["rate_limit"] is not None:
        yield fields["rate_limit"]
    if fields["rate_limit_per_tenant"] is not None:
        yield f"{fields['rate_limit_per_tenant']} per tenant"
    if fields["pause_after_failures"] is not None:
        yield f"pause after {counted(fields['pause_after_failures'], 'failure')}"
