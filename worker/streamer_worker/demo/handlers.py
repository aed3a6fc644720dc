"""The handlers of the demo."""

from __future__ import annotations

from typing import Any

import anyio

from streamer_worker.handlers.context import Context
from streamer_worker.handlers.definition import handler
from streamer_worker.handlers.exceptions import Reject

_STEP_SECONDS = 0.1


@handler("generate_report")
async def generate_report(payload: dict[str, Any], ctx: Context) -> dict[str, Any]:
    pages = int(payload["pages"])
    for page in range(1, pages + 1):
        await anyio.sleep(_STEP_SECONDS)
        await ctx.progress(page / pages, f"Page {page} of {pages}", details={"page": page})
    return {"url": f"https://reports.example/{ctx.request_id}.pdf", "pages": pages}


@handler("bulk_update")
async def bulk_update(payload: dict[str, Any], ctx: Context) -> dict[str, Any]:
    items = int(payload["items"])
    batch = 25
    for done in range(0, items, batch):
        await anyio.sleep(_STEP_SECONDS)
        await ctx.progress(done / items, f"Updated {done} items")
    return {"updated": items}


@handler("echo")
async def echo(payload: dict[str, Any], _ctx: Context) -> dict[str, Any]:
    return payload


@handler("charge_card")
async def charge_card(payload: dict[str, Any], ctx: Context) -> dict[str, Any]:
    await ctx.progress(0.5, "Asking the bank")
    await anyio.sleep(_STEP_SECONDS)
    raise Reject(f"card {payload['card']} was declined", code="CARD_DECLINED")


HANDLERS = (generate_report, bulk_update, echo, charge_card)
