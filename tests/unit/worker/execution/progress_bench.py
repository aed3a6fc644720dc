"""A writer of progress for one claim."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from streamer_store import Claim, ClaimLost, Progress
from streamer_worker.execution.progress import ProgressWriter
from streamer_worker.handlers.worker_channel import ProgressUpdate
from unit.worker.harness import World


class Bench:
    """A writer for one claim, in its worker's task group, and what it pushed."""

    def __init__(self, world: World, claim: Claim, tasks: anyio.abc.TaskGroup) -> None:
        self.claim = claim
        self.lost: list[ClaimLost] = []
        self.pushed: list[Progress] = []
        self.writer = ProgressWriter(
            requests=world.stores.requests,
            claim=claim,
            on_lost=self.lost.append,
            push=self.pushed.append,
            tasks=tasks,
            runtime=world.runtime,
        )

    async def report(
        self,
        fraction: float | None = None,
        message: str | None = None,
        details: Any = None,
        *,
        reset: bool = False,
    ) -> None:
        await self.writer.progress(ProgressUpdate(fraction, message, details, reset))


@asynccontextmanager
async def bench_for(world: World, **fields: Any) -> AsyncIterator[Bench]:
    claim = await world.claim(**fields)
    async with anyio.create_task_group() as tasks:
        yield Bench(world, claim, tasks)
        tasks.cancel_scope.cancel()
