"""A fleet that beats fast, and waiting for what it does."""

from __future__ import annotations

from typing import Final

import anyio

from processes import PATIENCE
from streamer_store import AsyncRequest, Stores
from streamer_store.transitions import TERMINAL

HEARTBEAT: Final = 0.5
LEASE: Final = 2.0
# The longest wait after the first rescue.
FIRST_WAIT: Final = 2.0
FAST: Final = {
    "STREAMER_PRESENCE_HEARTBEAT": "500ms",
    "STREAMER_PRESENCE_LEASE": "2s",
    "STREAMER_RESCUE_MIN_WORKER_AGE": "3s",
}


async def ended(stores: Stores, *ids: str, within: float = PATIENCE) -> list[AsyncRequest]:
    """Wait until all of these requests have come to an end, and return them."""
    with anyio.fail_after(within):
        while True:
            found = list((await stores.requests.get_many(ids)).values())
            if len(found) == len(ids) and all(each.status in TERMINAL for each in found):
                return found
            await anyio.sleep(0.05)
