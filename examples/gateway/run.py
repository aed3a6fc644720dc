"""Runs a gateway with a worker on an embedded DynamoDB: no AWS, no network beyond this machine.

    python examples/gateway/run.py --port 8797

It runs until SIGINT or SIGTERM. The data is lost then. Needs the extra `demo`.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
from contextlib import AsyncExitStack
from typing import Final

import anyio

from local_gateway import open_gateway
from streamer_store import open_stores
from streamer_worker.demo.environment import export_line, use_dummy_credentials
from streamer_worker.demo.moto import embedded_dynamodb
from streamer_worker.demo.workers import demo_workers
from streamer_worker.handlers.references import load_reference

_PORT: Final = 8797
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


async def run(port: int) -> None:
    """Run until a signal. What was started last ends first. Raises OSError if the port is used."""
    actions = [handler.action for handler in load_reference(_HANDLERS)]
    async with AsyncExitStack() as opened:
        signals = opened.enter_context(anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM))
        database = opened.enter_context(embedded_dynamodb())
        stores = await opened.enter_async_context(
            open_stores(endpoint_url=database, region=_REGION, batch_writes=False)
        )
        await stores.create_tables()
        gateway = await opened.enter_async_context(open_gateway(stores, actions=actions, port=port))
        settings = _SETTINGS | {
            "STREAMER_ENDPOINT_URL": database,
            # The worker posts without TLS to this host only.
            "STREAMER_NOTIFIER_MORE_HOSTS": gateway.url,
        }
        await opened.enter_async_context(
            demo_workers(("A",), settings=settings, references=(_HANDLERS,))
        )
        print(f"Open {gateway.url} in a browser, as two users if you like. Ctrl-C ends it.")
        print("For the commands, such as `streamer-worker status`, in another terminal:")
        print(f"  {export_line(database)}", flush=True)
        await anext(aiter(signals))


def main() -> None:
    parser = argparse.ArgumentParser(description="Run a gateway with a worker, without AWS.")
    parser.add_argument("--port", type=int, default=_PORT, help=f"default {_PORT}; 0: a free one")
    port = parser.parse_args().port
    for name in list(os.environ):
        if name.startswith("STREAMER_"):
            del os.environ[name]
    use_dummy_credentials()
    try:
        anyio.run(run, port)
    except OSError as error:
        if error.errno not in {errno.EACCES, errno.EADDRINUSE}:
            raise
        sys.exit(f"{error.strerror}. Choose another port with --port.")


if __name__ == "__main__":
    main()
