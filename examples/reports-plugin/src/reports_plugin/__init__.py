"""Handlers for reports: one that goes on after a crash, one that computes, one that shares."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
from pydantic import BaseModel, Field

from streamer_worker import Context, HandlerGroup, Reject, SyncContext, handler

_BATCH = 250


class Report(BaseModel):
    """What a report is asked for with."""

    rows: int = Field(default=1000, ge=1, le=1_000_000)


class Text(BaseModel):
    text: str


@dataclass
class Finished:
    rows: int
    url: str


class Database:
    """Stands in for a pool of connections to your database."""

    async def read(self, rows: int) -> int:
        await anyio.sleep(0.01)
        return rows


@asynccontextmanager
async def open_database() -> AsyncIterator[Database]:
    yield Database()


reports = HandlerGroup(lifespan=open_database)


@reports.handler("generate_report", timeout=600)
async def generate_report(payload: Report, ctx: Context[Database]) -> Finished:
    begin = ctx.last_checkpoint or 0
    for done in range(begin, payload.rows, _BATCH):
        await ctx.state.read(min(_BATCH, payload.rows - done))
        await ctx.progress(done, "Reading rows", total=payload.rows, details={"rows": done})
        await ctx.checkpoint(done + _BATCH)
    return Finished(rows=payload.rows, url=f"https://reports.example/{ctx.request_id}.pdf")


@handler("count_words", process=True)
def count_words(payload: Text, ctx: SyncContext) -> int:
    words = payload.text.split()
    if not words:
        raise Reject("there is nothing to count", code="EMPTY")
    return sum(1 for _ in ctx.track(words, "Counting"))
