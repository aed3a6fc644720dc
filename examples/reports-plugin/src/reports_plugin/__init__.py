"""Two handlers: a report made in steps, and a word count."""

from __future__ import annotations

from typing import Any

import anyio

from streamer_worker import Context, handler

_BATCH = 250


@handler("generate_report")
async def generate_report(payload: dict[str, Any], ctx: Context) -> dict[str, Any]:
    rows = int(payload.get("rows", 1000))
    for done in range(0, rows, _BATCH):
        await anyio.sleep(0.01)  # here the real one would read from its database
        await ctx.progress(done / rows, "Reading rows", details={"rows": done})
    return {"rows": rows, "url": f"https://reports.example/{ctx.request_id}.pdf"}


@handler("count_words")
async def count_words(payload: dict[str, Any], _ctx: Context) -> int:
    return len(str(payload["text"]).split())
