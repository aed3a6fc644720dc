"""Two handlers: a report that continues after a crash, and a word count in a process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
from pydantic import BaseModel, Field

from streamer_worker import Context, HandlerGroup, Reject, SyncContext, handler

_BATCH = 250


class Report(BaseModel):
    """The payload of `write_report`."""

    rows: int = Field(default=1000, ge=1, le=1_000_000)


class Text(BaseModel):
    """The payload of `count_words`."""

    text: str


@dataclass
class Finished:
    """The result of `write_report`."""

    rows: int
    url: str


class Database:
    """Replace this by a connection pool of your database."""

    async def read(self, rows: int) -> int:
        """Read this many rows, and return their number."""
        await anyio.sleep(0.01)
        return rows


@asynccontextmanager
async def open_database() -> AsyncIterator[Database]:
    """Open the database. The worker calls it once, and closes it after it has drained."""
    yield Database()


reports = HandlerGroup(lifespan=open_database)


@reports.handler("write_report", timeout=600)
async def write_report(payload: Report, ctx: Context[Database]) -> Finished:
    """Read the rows in batches. A later attempt continues after the last checkpoint."""
    first_row = ctx.last_checkpoint or 0
    for done in range(first_row, payload.rows, _BATCH):
        await ctx.state.read(min(_BATCH, payload.rows - done))
        await ctx.progress(done, "Reading rows", total=payload.rows, details={"rows": done})
        await ctx.checkpoint(done + _BATCH)
    return Finished(rows=payload.rows, url=f"https://reports.example/{ctx.request_id}.pdf")


@handler("count_words", process=True)
def count_words(payload: Text, ctx: SyncContext) -> int:
    """Return the number of words. Runs in a process, since it needs a CPU."""
    words = payload.text.split()
    if not words:
        raise Reject("the text has no words", code="EMPTY")
    return sum(1 for _ in ctx.track(words, "Counting"))
