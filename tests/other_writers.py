"""Writers that do not know lanes: an older release of ours, and the Go implementation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from streamer_store.engine import Engine, Page, Put, Query, Update
from streamer_store.lanes import LANE_ATTRIBUTES
from streamer_store.schema import REQUESTS
from streamer_store.values import Item

UNKNOWN_ATTRIBUTES = {*LANE_ATTRIBUTES, "Priority", "Lanes"}
WAITING = ("PENDING", "RETRYING")


class OldRelease:
    """An engine under our stores that makes their writes those of a release without lanes.

    It neither sets nor removes DueLane and DueAt, and returns every request that may run at once
    to PENDING, because it does not know SCHEDULED. It reads StatusIndex only.
    """

    def __init__(self, inner: Engine) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def put(self, put: Put) -> None:
        await self._inner.put(old_put(put))

    async def update(self, update: Update) -> Item:
        return await self._inner.update(old_update(update))

    async def query(self, query: Query) -> Page:
        assert query.index.name == "StatusIndex"
        return await self._inner.query(query)


def old_put(put: Put) -> Put:
    """Return what a release without lanes writes instead."""
    return replace(put, item=_without_lanes(put.item))


def old_update(update: Update) -> Update:
    """Return what a release without lanes writes instead."""
    sets = _without_lanes(update.sets)
    removes = tuple(name for name in update.removes if name not in UNKNOWN_ATTRIBUTES)
    if sets.get("Status") == {"S": "SCHEDULED"}:
        sets["Status"] = {"S": "PENDING"}
        del sets["RetryAfter"]
    return replace(update, sets=sets, removes=removes)


class Go:
    """The Go implementation. Its writes have no conditions and leave Version as it is."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def enqueue(self, request_id: str, now: datetime) -> None:
        await self._engine.put(
            Put(
                table=REQUESTS,
                item={
                    "RequestID": {"S": request_id},
                    "Status": {"S": "PENDING"},
                    "CreatedAt": {"S": go_time(now)},
                    "Action": {"S": "echo"},
                    "RetryAfter": {"S": "0001-01-01T00:00:00Z"},
                },
            )
        )

    async def step(self, item: Item, now: datetime, *, succeeds: bool) -> None:
        """Take a waiting request, or end the attempt of a running one."""
        match item["Status"]["S"]:
            case "PENDING" | "RETRYING":
                await self._move(item, "PROCESSING")
            case "PROCESSING" if succeeds:
                await self._move(item, "COMPLETED")
            case "PROCESSING":
                later = go_time(now + timedelta(seconds=10))
                await self._move(item, "RETRYING", RetryAfter={"S": later})

    async def _move(self, item: Item, status: str, **sets: Any) -> None:
        await self._engine.update(
            Update(
                table=REQUESTS,
                key=item["RequestID"]["S"],
                sets={"Status": {"S": status}, **sets},
                returning=False,
            )
        )


def go_time(moment: datetime) -> str:
    """Return a time as Go writes it: with an offset and without trailing zeros."""
    local = (moment + timedelta(hours=2)).replace(tzinfo=None)
    text = local.isoformat(timespec="microseconds").rstrip("0").rstrip(".")
    return f"{text}+02:00"


def _without_lanes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if name not in UNKNOWN_ATTRIBUTES}
