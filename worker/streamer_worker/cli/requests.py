from __future__ import annotations

import json
import random
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamer_store import AsyncRequest, RequestStatus, Stores, SystemClock, ValidationError
from streamer_worker.cli.formatting import counted, json_fields
from streamer_worker.cli.options import (
    ConfigOption,
    JsonOption,
    RequestArgument,
    with_stores,
)
from streamer_worker.cli.output import json_text, print_fields, print_json, print_line
from streamer_worker.cli.watching import follow

if TYPE_CHECKING:
    from streamer_worker.events import Event, PushTried
    from streamer_worker.settings import Settings

_PUSH_TIMEOUT = 10.0


def enqueue(
    action: Annotated[
        str, typer.Argument(help="Action to run; `streamer-worker handlers` lists them.")
    ],
    *,
    payload: Annotated[
        str,
        typer.Option(
            metavar="JSON", help="Payload, a JSON object. `-` reads it from standard input."
        ),
    ] = "{}",
    connection: Annotated[
        str | None, typer.Option(metavar="ID", help="Id of the connection to notify.")
    ] = None,
    user: Annotated[
        str | None, typer.Option(metavar="ID", help="Id of the user who sends it.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(metavar="ID", help="Id of the tenant.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the end. Exit with 1 unless COMPLETED.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Add a request to the queue, and print its id.

    Example: `streamer-worker enqueue echo --payload '{"n": 1}' --wait`
    """
    request = AsyncRequest(
        action=action,
        payload=_parse_payload(payload),
        connection_id=connection,
        user_id=user,
        tenant_id=tenant,
    )

    async def work(stores: Stores) -> AsyncRequest:
        stored = await stores.requests.enqueue(request)
        if not as_json:
            print_line(stored.request_id)
        return await follow(stores, stored.request_id, _show_nothing) if wait else stored

    latest = with_stores(config, work)
    if as_json:
        print_json(json_fields(latest))
    elif wait:
        _print(latest)
    if wait and latest.status is not RequestStatus.COMPLETED:
        raise typer.Exit(1)


def show(
    request_id: RequestArgument,
    *,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Print every field of a request.

    Exits with 1 if the request does not exist.

    Example: `streamer-worker show 3f6c… --json`
    """

    async def work(stores: Stores) -> AsyncRequest:
        return await stores.requests.get(request_id)

    request = with_stores(config, work)
    if as_json:
        print_json(json_fields(request))
    else:
        _print(request)


def cancel(
    request_id: RequestArgument,
    *,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Cancel a waiting or running request.

    A running handler is cancelled at its worker's next heartbeat, and the worker notifies the
    connections. This command notifies them if no worker runs the request. Exits with 1 if the
    request does not exist, or is COMPLETED or FAILED.

    Example: `streamer-worker cancel 3f6c…`
    """
    from streamer_worker.settings import load_settings

    settings = load_settings(config)

    async def work(stores: Stores) -> int:
        request = await stores.requests.cancel(request_id)
        # A claimed request names its worker, which notifies the connections itself.
        if request.worker_id is not None or settings.push == "off":
            return 0
        return await _notify_cancelled(stores, request, settings)

    notified = with_stores(config, work)
    if as_json:
        status = RequestStatus.CANCELLED
        print_json({"request_id": request_id, "status": status, "connections_notified": notified})
    else:
        also = f", and notified {counted(notified, 'connection')}" if notified else ""
        print_line(f"cancelled {request_id}{also}")


async def _notify_cancelled(stores: Stores, request: AsyncRequest, settings: Settings) -> int:
    """Push the cancellation, within 10 s; return the number of connections that received it."""
    from streamer_worker.events import Events, PushTried
    from streamer_worker.push.announcer import Announcer
    from streamer_worker.push.apigateway import open_poster
    from streamer_worker.push.notifier import Notifier
    from streamer_worker.runtime import Runtime

    sent: list[PushTried] = []
    rules = settings.notifier

    def collect(event: Event) -> None:
        if isinstance(event, PushTried) and event.outcome == "sent":
            sent.append(event)

    runtime = Runtime(clock=SystemClock(), rng=random.SystemRandom(), events=Events(collect))
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
            runtime=runtime,
        ) as notifier,
    ):
        Announcer(push=notifier.offer, clock=runtime.clock).cancelled(request)
        await notifier.flush(_PUSH_TIMEOUT)
    return len(sent)


def _show_nothing(request: AsyncRequest) -> None:
    del request


def _parse_payload(payload: str) -> dict[str, Any]:
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
        for name, value in json_fields(request).items()
    )
