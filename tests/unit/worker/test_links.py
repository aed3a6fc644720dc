"""What ties a plain function's context to its worker."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest
from anyio import from_thread

from streamer_worker import SyncContext, handler
from streamer_worker.testing import run_handler
from unit.worker.harness import PATIENCE, on_asyncio

pytestmark = [pytest.mark.anyio, on_asyncio]


async def test_a_sync_context_used_on_the_loop_blocks_nothing() -> None:
    """As by a helper that the handler runs there. Waiting for the loop on the loop's own thread
    would be for ever, and the worker's end.
    """

    @handler("work", timeout=5)
    def work(_payload: dict[str, Any], ctx: SyncContext) -> str:
        async def helper() -> None:
            ctx.progress(0.5, "half")
            ctx.checkpoint(1)

        with pytest.raises(RuntimeError, match="from the handler's own thread"):
            from_thread.run(helper)
        ctx.checkpoint(2)
        return "done"

    with anyio.fail_after(PATIENCE):
        run = await run_handler(work)
    assert run.became == "completed"
    assert [each.message for each in run.progress] == ["half"]
    assert run.checkpoints == [2]


async def test_a_sync_context_may_be_used_by_any_thread() -> None:
    """Those that the handler has started, too."""

    @handler("work", timeout=5)
    def work(_payload: dict[str, Any], ctx: SyncContext) -> None:
        def part() -> None:
            ctx.progress(0.5, "half")
            ctx.checkpoint(1)

        thread = threading.Thread(target=part)
        thread.start()
        thread.join()

    run = await run_handler(work)
    assert (run.became, run.checkpoints) == ("completed", [1])
