"""The one periodic loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import anyio

from streamer_worker.events import Events, StepFailed
from streamer_worker.retry import backoff

if TYPE_CHECKING:
    import random

Counts = TypeVar("Counts")

_FIRST_PAUSE_AFTER_FAILURE = 0.5
_LONGEST_PAUSE_AFTER_FAILURE = 30.0


async def run_every(
    pause: Callable[[Counts], float],
    step: Callable[[], Awaitable[Counts]],
    *,
    name: str,
    events: Events,
    rng: random.Random,
) -> None:
    """Call `step` for ever; `pause` tells from its counts how long to wait, in seconds.

    A step that raises is told as StepFailed, and the pauses after it grow until one succeeds.
    """
    failures: Iterator[float] | None = None
    while True:
        try:
            wait = pause(await step())
            failures = None
        except Exception as error:  # noqa: BLE001  no step ends the daemon
            events.emit(StepFailed(loop=name, error=error))
            if failures is None:
                failures = backoff(_FIRST_PAUSE_AFTER_FAILURE, _LONGEST_PAUSE_AFTER_FAILURE, rng)
            wait = next(failures)
        await anyio.sleep(wait)
