from __future__ import annotations

from functools import partial
from typing import Annotated

import anyio
import typer
from rich.console import Console

from streamer_worker.errors import StartError


def demo(
    *,
    keep_running: Annotated[
        bool, typer.Option("--keep-running", help="Keep the worker running until Ctrl-C.")
    ] = False,
) -> None:
    """Run some requests through two workers on an embedded DynamoDB. Needs no AWS account.

    Shows in about 20 s how workers share requests, how a failed attempt is retried, and how a
    request continues from its checkpoint on the other worker after its own was killed. Exits with
    1 if a request ends in an unexpected status.
    """
    try:
        from streamer_worker.demo.scenario import run_demo  # an optional extra
        from streamer_worker.demo.view import View
    except ImportError as error:
        raise StartError(
            "the demo is not installed:", ["run pip install 'streamer-worker[demo]'"]
        ) from error
    if not anyio.run(partial(run_demo, View(Console()), keep_running=keep_running)):
        raise typer.Exit(1)
