"""The handlers of the demo."""

from __future__ import annotations

from typing import Any

import anyio

from streamer_worker.handlers.context import Context
from streamer_worker.handlers.definition import handler
from streamer_worker.handlers.exceptions import Reject
from streamer_worker.retry import RetryPolicy

_STEP_SECONDS = 0.2
_ROWS_PER_CHECKPOINT = 5


@handler("generate_report")
async def generate_report(payload: dict[str, Any], ctx: Context) -> dict[str, Any]:
    pages = int(payload["pages"])
    for page in range(1, pages + 1):
        await anyio.sleep(_STEP_SECONDS)
        await ctx.progress(page / pages, f"page {page} of {pages}")
    return {"pages": pages}


@handler("bulk_update")
async def bulk_update(payload: dict[str, Any], ctx: Context) -> dict[str, Any]:
    items = int(payload["items"])
    batch = 25
    for done in range(batch, items + 1, batch):
        await anyio.sleep(_STEP_SECONDS)
        await ctx.progress(done / items, f"{done} of {items} items")
    return {"updated": items}


@handler("echo")
async def echo(payload: dict[str, Any], _ctx: Context) -> dict[str, Any]:
    return payload


@handler("send_mail", retry=RetryPolicy(first=3, longest=3))
async def send_mail(payload: dict[str, Any], ctx: Context) -> dict[str, Any]:
    await ctx.progress(0.5, "connecting")
    await anyio.sleep(_STEP_SECONDS)
    if ctx.attempt == 1:
        raise ConnectionError("no answer")
    return {"to": payload["to"]}


@handler("charge_card")
async def charge_card(payload: dict[str, Any], ctx: Context) -> dict[str, Any]:
    await ctx.progress(0.5, "asking the bank")
    await anyio.sleep(_STEP_SECONDS)
    raise Reject(f"card {payload['card']} was declined", code="CARD_DECLINED")


@handler("import_rows")
async def import_rows(payload: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Import rows one by one. A later attempt continues after the last checkpoint."""
    rows = int(payload["rows"])
    done = (ctx.last_checkpoint or {}).get("row", 0)
    first = done + 1
    for row in range(first, rows + 1):
        await anyio.sleep(_STEP_SECONDS)
        await ctx.progress(row / rows, f"row {row} of {rows}, from row {first}")
        if row % _ROWS_PER_CHECKPOINT == 0:
            await ctx.checkpoint({"row": row})
    return {"first_row": first}
