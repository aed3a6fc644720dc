"""Tasks of requests, which end before their worker does."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from streamer_worker.concurrency.request_tasks import open_request_tasks
from unit.worker.harness import on_asyncio

pytestmark = pytest.mark.anyio


class Work:
    """Work that waits in a shielded scope, as a write of an outcome does, until `go` is set."""

    def __init__(self) -> None:
        self.started = 0
        self.ended = 0
        self.go = anyio.Event()

    async def __call__(self) -> None:
        self.started += 1
        with anyio.CancelScope(shield=True):
            await self.go.wait()
        self.ended += 1


async def test_the_end_waits_for_all_tasks() -> None:
    """Whether the worker ends by itself, or is cancelled."""
    for is_cancelled in (False, True):
        work = Work()

        async def run(work: Work = work) -> None:
            async with open_request_tasks() as tasks:
                tasks.start_soon(work)
                tasks.start_soon(work)
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await anyio.wait_all_tasks_blocked()
            if is_cancelled:
                group.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await anyio.wait_all_tasks_blocked()
            assert (work.started, work.ended) == (2, 0)
            work.go.set()
        assert work.ended == 2


async def test_tasks_start_after_a_cancellation() -> None:
    """A claim whose slot was taken is sent or given back, and never forgotten."""
    work = Work()
    work.go.set()
    async with open_request_tasks() as tasks:
        tasks.group.cancel_scope.cancel()
        tasks.start_soon(work)
    assert work.ended == 1


async def test_an_error_of_a_task_is_raised() -> None:
    """The body is cancelled, as that of a task group is."""

    async def fail() -> None:
        raise RuntimeError("broken")

    async def run() -> None:
        async with open_request_tasks() as tasks:
            tasks.start_soon(fail)
            await anyio.sleep_forever()

    with pytest.raises(ExceptionGroup) as raised:
        await run()
    assert raised.group_contains(RuntimeError, match="broken")


async def test_an_error_of_the_body_is_raised_after_the_tasks_have_ended() -> None:
    """The error of a task at the end is raised beside it."""
    work = Work()

    async def fail() -> None:
        await work()
        raise RuntimeError("late")

    async def run() -> None:
        async with open_request_tasks() as tasks:
            tasks.start_soon(fail)
            await anyio.wait_all_tasks_blocked()
            tasks.group.start_soon(_set_after, work.go)
            raise LookupError("body")

    with pytest.raises(ExceptionGroup) as raised:
        await run()
    assert raised.group_contains(RuntimeError, match="late")
    assert raised.group_contains(LookupError, match="body")
    assert work.ended == 1


@on_asyncio
async def test_a_task_is_not_in_the_group() -> None:
    """So each request that runs has to be interrupted when the worker ends."""
    ended = anyio.Event()
    go = anyio.Event()

    async def work() -> None:
        await go.wait()
        ended.set()

    async with open_request_tasks() as tasks:
        tasks.start_soon(work)
        await anyio.wait_all_tasks_blocked()
        tasks.group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.wait_all_tasks_blocked()
            assert not ended.is_set()
            go.set()
            await ended.wait()


async def _set_after(event: anyio.Event) -> None:
    with anyio.CancelScope(shield=True):
        await anyio.wait_all_tasks_blocked()
        event.set()
