"""Calls of long operations, which outlast a time in which DynamoDB throttles or does not answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar

import anyio

from streamer_store.backoff import full_jitter
from streamer_store.errors import StoreUnavailable

if TYPE_CHECKING:
    import random

Result = TypeVar("Result")

_ATTEMPTS: Final = 6
_FIRST_PAUSE: Final = 0.5  # seconds
_LONGEST_PAUSE: Final = 20.0


async def repeat(call: Callable[[], Awaitable[Result]], *, rng: random.Random) -> Result:
    """Call until DynamoDB answers, with growing pauses. Each call has the retries of the client.

    `call`: must recognise what an earlier copy of it has done. `rng`: draws the pauses. Raises the
    StoreUnavailable of the sixth call.
    """
    attempt = 1
    while True:
        try:
            return await call()
        except StoreUnavailable:
            if attempt == _ATTEMPTS:
                raise
        await anyio.sleep(full_jitter(rng, attempt, first=_FIRST_PAUSE, longest=_LONGEST_PAUSE))
        attempt += 1
