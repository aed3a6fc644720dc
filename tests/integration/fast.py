"""Settings for a fleet with short leases, scaled to the speed of the machine."""

from __future__ import annotations

import subprocess
import time
from functools import cache
from typing import Final

import anyio

from processes import COMMAND, PATIENCE, environment
from streamer_store import AsyncRequest, Stores
from streamer_store.transitions import TERMINAL

# Seconds that `streamer-worker --version` takes on a machine with two free cores.
_USUAL: Final = 0.7


@cache
def slowness() -> float:
    """Return how much slower this machine is than a usual one, between 1 and 8.

    Other work beside the tests makes a machine slow. Leases and limits that are multiples of
    this make it late, and not red.
    """
    # The first start may also compile every module.
    seconds = min(_seconds_to_start(), _seconds_to_start())
    return min(8.0, max(1.0, seconds / _USUAL))


def _seconds_to_start() -> float:
    began = time.perf_counter()
    subprocess.run([*COMMAND, "--version"], env=environment(), capture_output=True, check=True)  # noqa: S603
    return time.perf_counter() - began


def scaled(seconds: float) -> str:
    """Return a duration for a setting, multiplied by the machine's slowness."""
    return f"{seconds * slowness():.3f}s"


HEARTBEAT: Final = 0.5 * slowness()
LEASE: Final = 4 * HEARTBEAT
# The longest wait after the first rescue.
FIRST_WAIT: Final = 2.0
FAST: Final = {
    "STREAMER_PRESENCE_HEARTBEAT": scaled(0.5),
    "STREAMER_PRESENCE_LEASE": scaled(2),
    "STREAMER_RESCUE_MIN_WORKER_AGE": scaled(3),
}


async def ended(stores: Stores, *ids: str, within: float = PATIENCE) -> list[AsyncRequest]:
    """Wait until these requests are COMPLETED, FAILED or CANCELLED, and return them."""
    with anyio.fail_after(within):
        while True:
            requests = list((await stores.requests.get_many(ids)).values())
            if len(requests) == len(ids) and all(
                request.status in TERMINAL for request in requests
            ):
                return requests
            await anyio.sleep(0.05)
