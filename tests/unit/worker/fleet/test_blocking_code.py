"""Which code blocks an event loop, and whose request it is."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import anyio
import pytest
import structlog

from streamer_worker import Context, handler
from streamer_worker.fleet.blocking_code import BlockingCode, blocking_code
from unit.worker.benches import DispatchBench
from unit.worker.faulty_engine import PATIENCE
from unit.worker.harness import World

pytestmark = pytest.mark.anyio


class Watch:
    """Reads, on a thread of its own, what the thread of this object's loop runs."""

    def __init__(self) -> None:
        self._thread_id = threading.get_ident()

    def block(self) -> None:
        """Block the loop until its code was read."""
        reader = threading.Thread(target=self._read)
        reader.start()
        reader.join(PATIENCE)

    def _read(self) -> None:
        self.code: BlockingCode = blocking_code(self._thread_id)

    @property
    def functions(self) -> list[str]:
        lines = self.code.stack.splitlines()
        return [line.partition(", in ")[2] for line in lines if line.startswith("  File")]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # as in a worker's process


async def test_a_handler_is_named_and_its_frames_are_first(world: World) -> None:
    """Neither the loop nor the code that calls handlers is in the stack."""
    watch = Watch()

    @handler("hog")
    async def hog(_payload: dict[str, Any], _ctx: Context) -> None:
        compute()

    def compute() -> None:
        watch.block()

    claim = await world.claim("hog")
    await DispatchBench(world, hog).run(claim)
    assert (watch.code.action, watch.code.request_id) == ("hog", claim.request_id)
    assert watch.functions[:3] == ["hog", "compute", "block"]


async def test_tasks_of_a_handler_belong_to_its_request(world: World) -> None:
    """Their stacks begin with the task's function."""
    watch = Watch()

    async def child() -> None:
        watch.block()

    @handler("spawns")
    async def spawns(_payload: dict[str, Any], _ctx: Context) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(child)

    claim = await world.claim("spawns")
    await DispatchBench(world, spawns).run(claim)
    assert (watch.code.action, watch.code.request_id) == ("spawns", claim.request_id)
    assert watch.functions[:2] == ["child", "block"]


async def test_other_code_has_no_request() -> None:
    """Its stack begins where the loop calls it."""
    watch = Watch()
    asyncio.get_running_loop().call_soon(watch.block)
    await anyio.sleep(0.01)
    assert (watch.code.action, watch.code.request_id) == (None, None)
    assert watch.functions[0] == "block"


async def test_fields_that_are_no_text_are_left_out() -> None:
    """A library may bind anything under these names."""
    watch = Watch()
    with structlog.contextvars.bound_contextvars(request_id=7, action=object()):
        await asyncio.create_task(_block(watch))
    assert (watch.code.action, watch.code.request_id) == (None, None)
    assert watch.functions[0] == "_block"


async def _block(watch: Watch) -> None:
    watch.block()


def test_a_thread_without_a_loop_has_its_whole_stack() -> None:
    """A loop that is closed, for example."""
    started, ends = threading.Event(), threading.Event()

    def outer() -> None:
        started.set()
        ends.wait(PATIENCE)

    thread = threading.Thread(target=outer)
    thread.start()
    assert started.wait(PATIENCE)
    code = blocking_code(thread.ident or 0)
    ends.set()
    thread.join()
    assert ", in outer" in code.stack
    assert code.request_id is None
    assert blocking_code(thread.ident or 0) == BlockingCode(stack="")
