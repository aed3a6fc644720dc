"""Packages with handlers, written and installed for tests of real processes."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

from processes import install

if TYPE_CHECKING:
    from pathlib import Path

SLOW_PLUGIN = """
    import asyncio, os, signal, sys, time
    import anyio
    from streamer_worker import handler

    @handler("wait")
    async def wait(payload, ctx):
        await ctx.progress(0.1, "waiting")
        await anyio.sleep(payload["seconds"])
        return {"waited": payload["seconds"]}

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
    f'{name} = "slow:{name}"' for name in re.findall(r'@handler\("(\w+)"', SLOW_PLUGIN)
)


def plugin(folder: Path, name: str, code: str, *entries: str) -> Path:
    """Write and install a package with these lines of entry points."""
    source = folder / f"{name}-source"
    (source / name).mkdir(parents=True)
    (source / name / "__init__.py").write_text(textwrap.dedent(code))
    lines = "\n".join(entries)
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        f'[project]\nname = "{name}"\nversion = "1.0"\n'
        f'[project.entry-points."streamer_worker.handlers"]\n{lines}\n'
    )
    return install(source, folder / name)
