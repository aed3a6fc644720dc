"""Enqueues three requests a second for the handlers of reports-plugin, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import signal

import anyio

from streamer_store import AsyncRequest, StoreError, Stores, open_stores

_INTERVAL = 1.0


async def main() -> None:
    """Produce until a signal. What is being written then is written, or it is not."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with open_stores() as stores, anyio.create_task_group() as tasks:
            tasks.start_soon(produce, stores)
            async for number in signals:
                print(f"stopped by {signal.Signals(number).name}", flush=True)
                tasks.cancel_scope.cancel()
                break


async def produce(stores: Stores) -> None:
    """Enqueue requests for ever. An outage is printed, and the next second is another try."""
    print("enqueuing three requests a second", flush=True)
    while True:
        try:
            await stores.requests.enqueue_many(
                [
                    AsyncRequest(action="write_report", payload={"rows": 20_000}),
                    AsyncRequest(action="count_words", payload={"text": "one two three"}),
                    AsyncRequest(action="count_words", payload={"text": ""}),  # is rejected
                ]
            )
        except StoreError as error:
            print(f"cannot enqueue: {error}", flush=True)
        await anyio.sleep(_INTERVAL)


if __name__ == "__main__":
    anyio.run(main)
