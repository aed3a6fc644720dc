"""Threads of handlers are reused, and are safe from exceptions that come too late."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import subprocess
import sys
import threading
import time
from typing import Any

import anyio
import pytest
from anyio import from_thread

from streamer_worker.execution.threads import HandlerThreads
from unit.worker.execution import injecting

pytestmark = pytest.mark.anyio

_VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")


@pytest.fixture
def anyio_backend() -> str:
    """Run in real time."""
    return "asyncio"


@pytest.fixture
def pool() -> HandlerThreads:
    return HandlerThreads(min_idle=1)


async def run(pool: HandlerThreads, function: Any) -> Any:
    with anyio.fail_after(20):
        return await anyio.to_thread.run_sync(pool.run, function)


async def test_an_idle_thread_is_used_again(pool: HandlerThreads) -> None:
    """The one that has been idle longest is next, so two alternate."""
    idents = [await run(pool, threading.get_ident) for _ in range(6)]
    assert idents == idents[:2] * 3
    assert len(set(idents)) == 2


async def test_exceptions_and_results_are_passed_on(pool: HandlerThreads) -> None:
    """Any exception and any result."""

    def fails() -> None:
        raise SystemExit(3)

    assert await run(pool, lambda: "found") == "found"
    with pytest.raises(SystemExit):
        await run(pool, fails)
    assert await run(pool, lambda: None) is None


@pytest.mark.parametrize("when", ["end", "moment"])
async def test_exceptions_from_other_threads_lose_no_call(when: str) -> None:
    """After the end of a call such an exception has no effect. At any other moment each call
    ends with its own result, or with the exception.
    """
    environment = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    path = os.pathsep.join(entry for entry in sys.path if entry)
    with anyio.fail_after(50):
        done = await anyio.run_process(
            [sys.executable, injecting.__file__, when],
            env=environment | {"PYTHONPATH": path},
            stderr=subprocess.STDOUT,
            check=False,
        )
    assert done.stdout.decode() == "no call was lost\n"


async def test_the_context_and_the_loop_are_those_of_the_caller(pool: HandlerThreads) -> None:
    """anyio's functions for threads work, and context variables that are set inside do not leave
    it.
    """
    _VARIABLE.set("caller's")

    async def double(number: int) -> int:
        return 2 * number

    def inside() -> Any:
        values = [_VARIABLE.get(), from_thread.run(double, 4)]
        _VARIABLE.set("inside")
        from_thread.check_cancelled()
        return values

    assert await run(pool, inside) == ["caller's", 8]
    assert _VARIABLE.get() == "caller's"


async def test_a_call_sees_that_it_is_cancelled(pool: HandlerThreads) -> None:
    """anyio's own function for it works, as in anyio's threads."""
    begun = threading.Event()

    def waits() -> str:
        begun.set()
        try:
            while True:
                from_thread.check_cancelled()
                time.sleep(0.001)
        except asyncio.CancelledError:
            return "cancelled"

    values: list[str] = []
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:

            async def one() -> None:
                values.append(await run(pool, waits))

            tasks.start_soon(one)
            await anyio.to_thread.run_sync(begun.wait, 10)
            scope.cancel()
    assert values == ["cancelled"]


async def test_threads_end_with_their_pool() -> None:
    """No thread is left."""
    pool = HandlerThreads(min_idle=1)
    threads = {await run(pool, threading.current_thread) for _ in range(3)}
    assert len(threads) == 2
    del pool
    gc.collect()
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join, 10)
        assert not thread.is_alive()
