from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from streamer_store import AsyncRequest, BulkResult, RequestStatus, Stores, SystemClock
from streamer_store.transitions import sources
from streamer_worker.cli.bulk import (
    Change,
    DryRunOption,
    LimitOption,
    MaxWriteUnitsOption,
    OnResult,
    Selection,
    Verb,
    change_many,
    refuse_options,
    report_changed,
    require_selection,
)
from streamer_worker.cli.formatting import counted
from streamer_worker.cli.ids import change_request
from streamer_worker.cli.options import (
    ActionOption,
    ConfigOption,
    ConnectionOption,
    JsonOption,
    SinceOption,
    TenantOption,
    YesOption,
    status_option,
    with_stores,
)
from streamer_worker.cli.output import print_json, print_line
from streamer_worker.cli.selecting import RequestFilter

if TYPE_CHECKING:
    from streamer_worker.events import Event, PushTried
    from streamer_worker.settings import Settings

_PUSH_TIMEOUT: Final = 10.0
_VERB: Final = Verb(infinitive="cancel", past="cancelled")
_NOT_ENDED: Final = [each for each in RequestStatus if each in sources(RequestStatus.CANCELLED)]

Notify = Callable[[list[AsyncRequest]], Awaitable[None]]
"""Pushes the cancellation of requests that no worker runs, within 10 s."""


def cancel(
    request_id: Annotated[
        str | None, typer.Argument(help="Id of the request, or the first characters of it.")
    ] = None,
    *,
    status: Annotated[list[RequestStatus] | None, status_option(_NOT_ENDED)] = None,
    action: ActionOption = None,
    tenant: TenantOption = None,
    connection: ConnectionOption = None,
    since: SinceOption = None,
    limit: LimitOption = 1_000_000,
    max_write_units: MaxWriteUnitsOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Cancel requests that wait or run.

    Name one request by its id or the beginning of it, or select some by --status, --action,
    --tenant, --connection, --since, or several of these. The command asks for confirmation if
    the id is not whole, or if more than one request is selected. A running handler is cancelled
    at its worker's next heartbeat, and the worker notifies the connections. This command notifies
    them if no worker runs the request. Exits with 1 if a request does not exist, or is COMPLETED
    or FAILED, or if the answer is no, and with 2 if there is no terminal to ask on.

    Examples: `streamer-worker cancel 3f6c…`,
    `streamer-worker cancel --action generate_report --status pending --dry-run`
    """
    from streamer_worker.settings import load_settings

    settings = load_settings(config)
    matching = RequestFilter(action=action, tenant=tenant, connection=connection, since=since)
    names = "--status, --action, --tenant, --connection or --since"
    if request_id is not None:
        used = bool(status) or dry_run or not matching.is_empty
        refuse_options(used=used, names=names)
        _cancel_one(request_id, settings, config, as_json=as_json)
        return
    if not status and matching.is_empty:
        require_selection(names)
    if ended := set(status or ()).difference(_NOT_ENDED):
        raise typer.BadParameter(
            f"requests that are {min(ended)} have ended", param_hint="--status"
        )
    selection = Selection(
        matching=matching, statuses=status or _NOT_ENDED, limit=limit, dry_run=dry_run, yes=yes
    )
    notified: list[PushTried] = []

    @asynccontextmanager
    async def cancelling(stores: Stores) -> AsyncIterator[Change]:
        async with _notifying(stores, settings, notified) as notify:

            async def change(ids: list[str], on_result: OnResult) -> None:
                done: list[str] = []

                def note(result: BulkResult[Any]) -> None:
                    on_result(result)
                    if result.error is None:
                        done.append(result.key)

                await stores.requests.cancel_many(
                    ids,
                    statuses=selection.statuses,
                    on_result=note,
                    max_write_units=max_write_units,
                )
                if notify is not None:
                    await notify(list((await stores.requests.get_many(done)).values()))

            yield change

    changed = change_many(config, selection, _VERB, cancelling)
    report_changed(changed, _VERB, selection, as_json=as_json, connections_notified=len(notified))


def _cancel_one(text: str, settings: Settings, config: ConfigOption, *, as_json: bool) -> None:
    notified: list[PushTried] = []

    async def work(stores: Stores) -> str:
        request_id, request = await change_request(
            stores, text, stores.requests.cancel, verb="cancel"
        )
        async with _notifying(stores, settings, notified) as notify:
            if notify is not None:
                await notify([request])
        return request_id

    request_id = with_stores(config, work)
    if as_json:
        status = RequestStatus.CANCELLED
        fields = {"request_id": request_id, "status": status}
        print_json(fields | {"connections_notified": len(notified)})
    else:
        also = f", and notified {counted(len(notified), 'connection')}" if notified else ""
        print_line(f"cancelled {request_id}{also}")


@asynccontextmanager
async def _notifying(
    stores: Stores, settings: Settings, sent: list[PushTried]
) -> AsyncIterator[Notify | None]:
    """Open what pushes cancellations, or return None where push is off.

    `sent`: gets an event for each connection that was notified.
    """
    from streamer_worker.events import Events, PushTried
    from streamer_worker.push.announcer import Announcer
    from streamer_worker.push.apigateway import open_poster
    from streamer_worker.push.notifier import Notifier
    from streamer_worker.runtime import Runtime

    if settings.push != "apigateway":
        yield None
        return
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
            endpoint=settings.push_endpoint,
        ) as notifier,
    ):
        announcer = Announcer(push=notifier.offer, clock=runtime.clock)

        async def notify(requests: list[AsyncRequest]) -> None:
            for request in requests:
                # A claimed request names its worker, which notifies the connections itself.
                if request.worker_id is None:
                    announcer.cancelled(request)
            await notifier.flush(_PUSH_TIMEOUT)

        yield notify
