from __future__ import annotations

from streamer_store import AsyncRequest, Stores
from streamer_worker.cli.formatting import json_fields
from streamer_worker.cli.options import (
    ConfigOption,
    JsonOption,
    RequestArgument,
    with_stores,
)
from streamer_worker.cli.output import json_text, print_fields, print_json


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
        print_request(request)


def print_request(request: AsyncRequest) -> None:
    """Print a line for each field that is not None."""
    print_fields(
        (name, value if isinstance(value, str) else json_text(value))
        for name, value in json_fields(request).items()
    )
