"""How the handler of a simulated job ends."""

from __future__ import annotations

from typing import Any

import anyio

from simulation.judge import Run
from simulation.schedule import Job
from streamer_worker import RetryLater


async def end_handler(run: Run, job: Job, ctx: Any) -> Any:
    """Raise, linger or return, as the job says."""
    if job.raises:
        raise ValueError("it does not work")
    if job.snoozes and ctx.attempt == 1 and run.number % 2:
        raise RetryLater(after=3)
    if job.lingers:
        run.torn = True
        with anyio.CancelScope(shield=True):
            await anyio.sleep(2)
    return {"run": run.number}


def never() -> None:
    """End the process of a worker whose handler is stuck, which must not happen here."""
    raise AssertionError("no handler of the simulation ignores its cancellation forever")
