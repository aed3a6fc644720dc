from __future__ import annotations

import json
import random
import sys
from typing import Annotated, Any

import typer

from streamer_store import AsyncRequest, RequestStatus, Stores, SystemClock, ValidationError
from streamer_worker.cli.options import (
    ConfigOption,
    JsonOption,
    RequestArgument,
    plain_fields,
    with_stores,
)
from streamer_worker.cli.output import json_text, print_fields, say, tell_json
from streamer_worker.cli.watching import changes_of
from streamer_worker.events import Event, Events, PushTried
from streamer_worker.push.announcer import Announcer
from streamer_worker.push.apigateway import open_poster
from streamer_worker.push.notifier import Notifier
from streamer_worker.settings import Settings, load_settings

_TELLING = 10.0


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
    as_json: JsonOption = False,
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
        if not as_json:
            say(stored.request_id)
        return await _ended(stores, stored.request_id) if wait else stored

    last = with_stores(config, work)
    if as_json:
        tell_json(plain_fields(last))
    elif wait:
        _print(last)
    if wait and last.status is not RequestStatus.COMPLETED:
        raise typer.Exit(1)


def show(
    request_id: RequestArgument,
    *,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Print all that the table knows of a request.

    Exits with 1 when there is none.

    Example: `streamer-worker show 3f6c… --json`
    """

    async def work(stores: Stores) -> AsyncRequest:
        return await stores.requests.get(request_id)

    request = with_stores(config, work)
    if as_json:
        tell_json(plain_fields(request))
    else:
        _print(request)


def cancel(
    request_id: RequestArgument,
    *,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Cancel a waiting or running request; a running handler is stopped within a heartbeat.

    Connections that wait are told: by its worker, or, of a request that nobody runs, by this
    command. Exits with 1 when there is no such request, or it has completed or failed.

    Example: `streamer-worker cancel 3f6c…`
    """
    settings = load_settings(config)

    async def work(stores: Stores) -> int:
        request = await stores.requests.cancel(request_id)
        # A claim names its worker, which tells by itself.
        if request.worker_id is not None or settings.push == "off":
            return 0
        return await _tell_cancelled(stores, request, settings)

    told = with_stores(config, work)
    if as_json:
        tell_json({"request_id": request_id, "status": "CANCELLED", "connections_told": told})
    else:
        say(f"{request_id} is cancelled" + (f"; connections told: {told}" if told else ""))


async def _tell_cancelled(stores: Stores, request: AsyncRequest, settings: Settings) -> int:
    """Return how many connections have taken the message."""
    told: list[PushTried] = []
    clock, rng, rules = SystemClock(), random.SystemRandom(), settings.notifier

    def hear(event: Event) -> None:
        if isinstance(event, PushTried) and event.outcome == "sent":
            told.append(event)

    async with (
        open_poster(
            region=settings.region,
            seconds=rules.timeout,
            max_concurrent_posts=rules.max_concurrent_posts,
        ) as post,
        Notifier(
            connections=stores.connections,
            subscriptions=stores.subscriptions,
            post=post,
            settings=rules,
            events=Events(hear),
            clock=clock,
            rng=rng,
        ) as notifier,
    ):
        Announcer(push=notifier.offer, clock=clock).cancelled(request)
        await notifier.flush(_TELLING)
    return len(told)


async def _ended(stores: Stores, request_id: str) -> AsyncRequest:
    last: AsyncRequest | None = None
    async for request in changes_of(stores, request_id):
        last = request
    assert last is not None  # noqa: S101  there is at least one, or NotFound
    return last


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
    print_fields(
        (name, value if isinstance(value, str) else json_text(value))
        for name, value in plain_fields(request).items()
    )
