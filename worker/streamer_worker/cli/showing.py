from __future__ import annotations

from typing import Annotated

import typer

from streamer_store import AsyncRequest, Clock, Stores, SystemClock
from streamer_store.transitions import WAITING
from streamer_worker.cli.attempts import print_attempts
from streamer_worker.cli.formatting import json_fields
from streamer_worker.cli.ids import with_request
from streamer_worker.cli.live_workers import warn_if_paused
from streamer_worker.cli.options import ConfigOption, JsonOption, RequestArgument, with_stores
from streamer_worker.cli.output import print_empty_line, print_fields, print_json
from streamer_worker.cli.request_sections import document_fields, identity_fields, state_fields
from streamer_worker.sanitize import ERROR_CHARS


def show(
    request_id: RequestArgument,
    *,
    full: Annotated[
        bool, typer.Option("--full", help="Print payload, result and other values whole.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Print a request: state, cause, times, identity, payload and result.

    Long values are cut unless --full is set. JSON has every field, and nothing is cut. Says on
    stderr if a pause holds the request back. Exits with 1 if the request does not exist, or if
    several of the newest 10,000 begin with the id.

    Example: `streamer-worker show 3f6c1a2b --json`
    """

    async def work(stores: Stores) -> AsyncRequest:
        _, request = await with_request(stores, request_id, stores.requests.get)
        if request.status in WAITING:
            await warn_if_paused(stores, request, SystemClock())
        return request

    request = with_stores(config, work)
    if as_json:
        print_json(json_fields(request))
    else:
        print_request(request, full=full)


def print_request(request: AsyncRequest, *, full: bool = False, clock: Clock | None = None) -> None:
    """Print the request in sections: state, identity, failed attempts, and the values.

    The values are cut unless `full`.
    """
    now = (clock or SystemClock()).now()
    state, identity = state_fields(request, now), identity_fields(request)
    documents = document_fields(request, full=full)
    width = max(len(name) for name, _ in (*state, *identity, *documents))
    limit = None if full else ERROR_CHARS
    print_fields(state, limit=limit, width=width)
    print_empty_line()
    print_fields(identity, limit=limit, width=width)
    if request.attempts:
        print_empty_line()
        print_attempts(request.attempts)
    if documents:
        print_empty_line()
        print_fields(documents, limit=limit, width=width)
