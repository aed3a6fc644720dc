"""Runs a gateway with a worker on an embedded DynamoDB: no AWS, no network beyond this machine.

    python examples/gateway/run.py --port 8797

It runs until SIGINT or SIGTERM. The data is lost then. Needs the extra `demo`. Instead of the
demo's handlers, `--handlers hello:greet` runs your own from a module in the current directory.

With `--post-url` it runs the gateway alone, over the tables of STREAMER_ENDPOINT_URL,
STREAMER_TABLE_PREFIX and STREAMER_REGION, for workers that run elsewhere. That needs no extra:
deploy/compose.yaml does it in the image of the worker.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import anyio

from local_gateway import open_gateway
from streamer_store import open_stores
from streamer_worker.demo.environment import export_line, use_dummy_credentials
from streamer_worker.demo.workers import demo_workers
from streamer_worker.handlers.references import load_reference

_PORT: Final = 8797
_HOSTS: Final = ("127.0.0.1", "0.0.0.0")  # noqa: S104  for a container, whose ports are published
_REGION: Final = "us-east-1"
_HANDLERS: Final = "streamer_worker.demo.handlers"
_SETTINGS: Final = {
    "STREAMER_BATCH_WRITES": "false",  # the embedded DynamoDB has none
    "STREAMER_DRAIN_TIMEOUT": "1s",
    "STREAMER_HTTP_HOST": "127.0.0.1",
    "STREAMER_HTTP_PORT": "0",
    "STREAMER_LOG_FORMAT": "json",
    "STREAMER_PUSH": "apigateway",
    "STREAMER_REGION": _REGION,
}


def actions(references: Sequence[str]) -> list[str]:
    """Return the actions of handlers, which are given as `MODULE` or `MODULE:NAME`."""
    sys.path.insert(0, str(Path.cwd()))
    return [handler.action for reference in references for handler in load_reference(reference)]


async def run(host: str, port: int, references: Sequence[str]) -> None:
    """Run until a signal. What was started last ends first. Raises OSError if the port is used."""
    from streamer_worker.demo.moto import embedded_dynamodb  # noqa: PLC0415  needs the extra

    async with AsyncExitStack() as opened:
        signals = opened.enter_context(anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM))
        database = opened.enter_context(embedded_dynamodb())
        stores = await opened.enter_async_context(
            open_stores(endpoint_url=database, region=_REGION, batch_writes=False)
        )
        await stores.create_tables()
        gateway = await opened.enter_async_context(
            open_gateway(stores, actions=actions(references), host=host, port=port)
        )
        settings = _SETTINGS | {
            "STREAMER_ENDPOINT_URL": database,
            # The worker posts without TLS to this host only.
            "STREAMER_NOTIFIER_MORE_HOSTS": gateway.url,
        }
        await opened.enter_async_context(
            demo_workers(("A",), settings=settings, references=tuple(references))
        )
        print(f"Open {gateway.url} in a browser, as two users if you like. Ctrl-C ends it.")
        print("For the commands, such as `streamer-worker status`, in another terminal:")
        print(f"  {export_line(database)}", flush=True)
        await anext(aiter(signals))


async def run_alone(host: str, port: int, references: Sequence[str], post_url: str) -> None:
    """Run a gateway over existing tables until a signal. Raises OSError if the port is used."""
    async with AsyncExitStack() as opened:
        signals = opened.enter_context(anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM))
        stores = await opened.enter_async_context(open_stores())
        gateway = await opened.enter_async_context(
            open_gateway(
                stores, actions=actions(references), host=host, port=port, post_url=post_url
            )
        )
        print(f"Open {gateway.url} in a browser. Workers post to {gateway.post_url}.", flush=True)
        await anext(aiter(signals))


def _post_url(text: str) -> str:
    """Return the URL that workers can post to. Raises ArgumentTypeError."""
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path not in {"", "/"}:
        raise argparse.ArgumentTypeError(f"{text!r} is not like http://gateway:8797")
    return text.rstrip("/")


def main() -> None:
    parser = argparse.ArgumentParser(description="Run a gateway with a worker, without AWS.")
    parser.add_argument("--port", type=int, default=_PORT, help=f"default {_PORT}; 0: a free one")
    parser.add_argument(
        "--host",
        choices=_HOSTS,
        default=_HOSTS[0],
        help=f"address to listen on; default {_HOSTS[0]}",
    )
    parser.add_argument(
        "--handlers",
        metavar="MODULE:NAME",
        action="append",
        help=f"handlers whose actions clients may request; repeat it for several. Default:"
        f" {_HANDLERS}",
    )
    parser.add_argument(
        "--post-url",
        metavar="URL",
        type=_post_url,
        help="run the gateway alone, over the tables of STREAMER_ENDPOINT_URL, for workers that"
        " post to this URL, such as http://gateway:8797",
    )
    options = parser.parse_args()
    references = options.handlers or [_HANDLERS]
    try:
        if options.post_url:
            anyio.run(run_alone, options.host, options.port, references, options.post_url)
            return
        for name in list(os.environ):
            if name.startswith("STREAMER_"):
                del os.environ[name]
        use_dummy_credentials()
        anyio.run(run, options.host, options.port, references)
    except OSError as error:
        if error.errno not in {errno.EACCES, errno.EADDRINUSE}:
            raise
        sys.exit(
            f"{error.strerror}. Choose another port with --port (make gateway ARGS='--port 0')."
        )


if __name__ == "__main__":
    main()
