from __future__ import annotations

from typing import Annotated

import typer

from streamer_store import AsyncRequest, Stores, SystemClock
from streamer_worker.cli.formatting import json_fields
from streamer_worker.cli.ids import change_request
from streamer_worker.cli.options import ConfigOption, JsonOption, with_stores
from streamer_worker.cli.output import print_json, print_line
from streamer_worker.cli.run_times import (
    AtOption,
    BeyondAYearOption,
    InOption,
    delay_of,
    due_note,
)


def reschedule(
    request_id: Annotated[
        str, typer.Argument(help="Id of a request that waits, or the first characters of it.")
    ],
    *,
    in_: InOption = None,
    at: AtOption = None,
    beyond_a_year: BeyondAYearOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Change when a waiting request may run.

    Give --in or --at. A time that has passed means at once. Asks for confirmation if the id is not
    whole. Exits with 1 if the request does not wait.

    Example: `streamer-worker reschedule 3f6c… --in 2h`
    """
    delay = delay_of(in_, at)
    if delay is None and at is None:
        raise typer.BadParameter("give --in or --at")

    async def work(stores: Stores) -> tuple[str, AsyncRequest]:
        async def change(whole_id: str) -> AsyncRequest:
            return await stores.requests.reschedule(
                whole_id, run_at=at, delay=delay, beyond_a_year=beyond_a_year
            )

        return await change_request(stores, request_id, change, verb="reschedule")

    whole_id, request = with_stores(config, work)
    if as_json:
        print_json(json_fields(request))
    else:
        print_line(
            f"{whole_id} is {request.status}, and {due_note(request.retry_after, SystemClock())}"
        )
