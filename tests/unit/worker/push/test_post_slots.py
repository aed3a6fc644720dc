"""The limiter of posts: its total, its two queues, and cancellation."""

from __future__ import annotations

import anyio
import pytest

from streamer_worker.push.post_slots import PostSlots

pytestmark = pytest.mark.anyio


class Bench:
    """Slots, and tasks that hold one until `end`."""

    def __init__(self, total: int) -> None:
        self.slots = PostSlots(total)
        self.began: list[str] = []
        self.gates: dict[str, anyio.Event] = {}

    async def post(self, key: str, urgent: bool = False) -> None:  # noqa: FBT001, FBT002
        self.gates[key] = anyio.Event()
        async with self.slots.hold(key, urgent=urgent):
            self.began.append(key)
            await self.gates[key].wait()

    async def end(self, *keys: str) -> None:
        for key in keys:
            self.gates[key].set()
            await anyio.wait_all_tasks_blocked()


async def test_urgent_posts_go_first() -> None:
    """Each queue keeps its order, and the total is never exceeded."""
    bench = Bench(1)
    async with anyio.create_task_group() as tasks:
        for key, urgent in [("a", False), ("b", False), ("c", True), ("d", False), ("e", True)]:
            tasks.start_soon(bench.post, key, urgent)
            await anyio.wait_all_tasks_blocked()
        assert bench.began == ["a"]
        await bench.end("a", "c", "e", "b", "d")
    assert bench.began == ["a", "c", "e", "b", "d"]


async def test_a_waiting_post_becomes_urgent() -> None:
    """One that does not wait is not affected."""
    bench = Bench(2)
    async with anyio.create_task_group() as tasks:
        for key in "abcd":
            tasks.start_soon(bench.post, key)
            await anyio.wait_all_tasks_blocked()
        bench.slots.make_urgent("d")
        bench.slots.make_urgent("a")
        await bench.end("a")
        assert bench.began == ["a", "b", "d"]
        await bench.end("b", "c", "d")
    assert bench.began == ["a", "b", "d", "c"]


async def test_a_cancelled_wait_takes_no_slot() -> None:
    """Neither before it was granted nor at that moment."""
    bench = Bench(1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.post, "a")
        await anyio.wait_all_tasks_blocked()
        with anyio.move_on_after(0):
            await bench.post("gone")
        async with anyio.create_task_group() as cancelled:
            cancelled.start_soon(bench.post, "granted")
            await anyio.wait_all_tasks_blocked()
            bench.gates["a"].set()
            cancelled.cancel_scope.cancel()
        tasks.start_soon(bench.post, "b")
        await anyio.wait_all_tasks_blocked()
        assert bench.began[-1] == "b"
        await bench.end("b")
