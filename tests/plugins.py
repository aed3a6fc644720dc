"""Packages with handlers, written for tests of real processes."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SLOW_PLUGIN = """
    import asyncio, os, signal, sys, time
    import anyio
    from streamer_worker import RetryLater, handler

    @handler("wait")
    async def wait(payload, ctx):
        await ctx.progress(0.1, "waiting")
        await anyio.sleep(payload["seconds"])
        return {"waited": payload["seconds"]}

    @handler("talk")
    async def talk(payload, ctx):
        for number in range(payload["messages"]):
            await ctx.send({"own": number})
        await ctx.broadcast("to the user", user=payload["user"])
        await ctx.broadcast("to the tenant", tenant=payload["tenant"])

    @handler("leave")
    async def leave(payload, ctx):
        sys.exit(3)

    @handler("interrupt")
    async def interrupt(payload, ctx):
        raise KeyboardInterrupt

    @handler("signal_itself")
    async def signal_itself(payload, ctx):
        os.kill(os.getpid(), signal.SIGTERM)
        await anyio.sleep(0.2)

    @handler("first_hangs")
    async def first_hangs(payload, ctx):
        if ctx.last_checkpoint is None:
            await ctx.checkpoint("hung")
            await anyio.sleep(60)
        return {"attempt": ctx.attempt}

    @handler("hold_action")
    async def hold_action(payload, ctx):
        if ctx.last_checkpoint is None:
            await ctx.checkpoint("held")
            raise RetryLater(after=0.5, scope="action")

    @handler("work")
    async def work(payload, ctx):
        with open(payload["file"], "a") as effects:
            effects.write(ctx.request_id + "\\n")
        await anyio.sleep(payload["seconds"])
        return {"attempt": ctx.attempt}

    @handler("block")
    async def block(payload, ctx):
        time.sleep(payload["seconds"])

    @handler("refuse_to_end")
    async def refuse_to_end(payload, ctx):
        while True:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(60)

    @handler("executor")
    async def executor(payload, ctx):
        await asyncio.to_thread(time.sleep, payload["seconds"])

    @handler("exits_elsewhere")
    async def exits_elsewhere(payload, ctx):
        async def leave():
            sys.exit(0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leave)

    @handler("thread")
    def thread(payload, ctx):
        ctx.progress(0.5, "in a thread")
        time.sleep(payload["seconds"])
        return {"cancelled": ctx.cancelled}
"""
SLOW_ENTRIES = tuple(
    f"{name} = slow:{name}" for name in re.findall(r'@handler\("(\w+)"', SLOW_PLUGIN)
)


def plugin(folder: Path, name: str, code: str, *entries: str) -> Path:
    """Write a package with these lines of entry points, as an installer leaves it.

    `install` runs the real installer, which takes 20 times as long.
    """
    target = folder / name
    (target / name).mkdir(parents=True)
    (target / name / "__init__.py").write_text(textwrap.dedent(code))
    metadata = target / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = "\n".join(["[streamer_worker.handlers]", *entries])
    (metadata / "entry_points.txt").write_text(lines + "\n")
    return target
