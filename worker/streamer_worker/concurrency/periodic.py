"""The loop that all periodic services use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import anyio

from streamer_worker.events import StepFailed
from streamer_worker.retry import backoff
from streamer_worker.runtime import Runtime

Counts = TypeVar("Counts")

# Seconds.
_FIRST_PAUSE_AFTER_FAILURE = 0.5
_LONGEST_PAUSE_AFTER_FAILURE = 30.0


async def run_every(
    pause: Callable[[Counts], float],
    step: Callable[[], Awaitable[Counts]],
    *,
    name: str,
    runtime: Runtime,
    sleep: Callable[[float], Awaitable[object]] = anyio.sleep,
) -> None:
    """Call `step` repeatedly, until cancelled.

    pause: returns the seconds until the next step, from the result of the last one.
    step: does the work once.
    name: name of the loop, for StepFailed.
    sleep: waits for a pause between two steps, and may return earlier.

    If a step raises, StepFailed is emitted. The pauses grow with each failure, up to 30 seconds,
    until a step succeeds.
    """
    failures: Iterator[float] | None = None
    while True:
        try:
            wait = pause(await step())
            failures = None
        except Exception as error:  # noqa: BLE001  no step may end the worker
            runtime.events.emit(StepFailed(loop=name, error=error))
            if failures is None:
                failures = backoff(
                    _FIRST_PAUSE_AFTER_FAILURE, _LONGEST_PAUSE_AFTER_FAILURE, runtime.rng
                )
            await anyio.sleep(next(failures))
        else:
            await sleep(wait)
