from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import anyio
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamer_store import AsyncRequest, RequestStatus, Stores, ValidationError
from streamer_store.transitions import TERMINAL
from streamer_worker.cli.options import ConfigOption, JsonOption, plain_fields, with_stores
from streamer_worker.texts import readable

_LOOK_AGAIN = 0.5


def enqueue(
    action: Annotated[str, typer.Argument(help="The action, as handlers name it.")],
    *,
    payload: Annotated[
        str, typer.Option(help="A JSON object, or - to read it from standard input.")
    ] = "{}",
    connection: Annotated[str | None, typer.Option(help="Connection that asks.")] = None,
    user: Annotated[str | None, typer.Option(help="User that asks.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Tenant that asks.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the end; exit 1 unless COMPLETED.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Put a request into the queue and print its id.

    Example: `streamer-worker enqueue echo --payload '{"n": 1}' --wait`
    """
    request = AsyncRequest(
        action=action,
        payload=_parsed(payload),
        connection_id=connection,
        user_id=user,
        tenant_id=tenant,
    )

    async def work(stores: Stores) -> AsyncRequest:
        stored = await stores.requests.enqueue(request)
        typer.echo(stored.request_id)
        return await _ended(stores, stored.request_id) if wait else stored

    last = with_stores(config, work)
    if wait:
        _print(last)
        if last.status is not RequestStatus.COMPLETED:
            raise typer.Exit(1)


def show(
    request_id: Annotated[str, typer.Argument(help="The request's id.")],
    *,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Print all that the table knows of a request."""

    async def work(stores: Stores) -> AsyncRequest:
        return await stores.requests.get(request_id)

    request = with_stores(config, work)
    if as_json:
        typer.echo(json.dumps(plain_fields(request), indent=2, default=str, ensure_ascii=False))
    else:
        _print(request)


def cancel(
    request_id: Annotated[str, typer.Argument(help="The request's id.")],
    *,
    config: ConfigOption = None,
) -> None:
    """Cancel a waiting or running request; a running handler is stopped within a heartbeat.

    Exits with 1 when there is no such request, or it has completed or failed.
    """

    async def work(stores: Stores) -> AsyncRequest:
        return await stores.requests.cancel(request_id)

    with_stores(config, work)
    typer.echo(f"{request_id} is cancelled")


async def _ended(stores: Stores, request_id: str) -> AsyncRequest:
    while True:
        request = await stores.requests.get(request_id)
        if request.status in TERMINAL:
            return request
        await anyio.sleep(_LOOK_AGAIN)


def _parsed(payload: str) -> dict[str, Any]:
    try:
        parsed = json.loads(sys.stdin.read() if payload == "-" else payload)
    except RecursionError as error:
        raise ValidationError("payload", "is nested too deeply") from error
    except ValueError as error:  # not JSON, not UTF-8, or a number of thousands of digits
        raise ValidationError("payload", f"not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise ValidationError("payload", f"must be a JSON object, not {type(parsed).__name__}")
    return parsed


def _print(request: AsyncRequest) -> None:
    table = Table.grid(padding=(0, 2))
    for name, value in plain_fields(request).items():
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        table.add_row(Text(name, style="bold"), Text(readable(text)))
    Console(soft_wrap=True).print(table)
