"""Tasks with the same key go one after another."""

from __future__ import annotations

import anyio
import pytest
from anyio.lowlevel import checkpoint

from streamer_store.in_order import InOrder

pytestmark = pytest.mark.anyio


async def test_blocks_of_one_key_run_in_the_order_in_which_they_began() -> None:
    """The later one ends quicker, and still waits. A block of another key does not."""
    in_order = InOrder()
    entered: list[str] = []
    first_began, release = anyio.Event(), anyio.Event()

    async def first() -> None:
        async with in_order.of("a"):
            entered.append("first")
            first_began.set()
            await release.wait()

    async def second() -> None:
        async with in_order.of("a"):
            entered.append("second")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first)
        await first_began.wait()
        tasks.start_soon(second)
        async with in_order.of("b"):
            entered.append("other")
        await checkpoint()
        assert entered == ["first", "other"]
        release.set()
    assert entered == ["first", "other", "second"]
    assert in_order._last == {}


async def test_a_block_that_fails_lets_the_next_one_go() -> None:
    """Nothing is left behind."""
    in_order = InOrder()
    with pytest.raises(ValueError, match="no"):
        async with in_order.of("a"):
            raise ValueError("no")
    async with in_order.of("a"):
        pass
    assert in_order._last == {}
