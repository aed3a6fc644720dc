"""Handlers whose texts, checkpoints and results cannot be stored, of each kind."""

from __future__ import annotations

from functools import wraps
from typing import Any

from streamer_worker import Context, Reject, SyncContext, handler

NAME = "report \udcff.pdf"
SHOWN = r"report \udcff.pdf"
DETAILS = {NAME: [NAME, {"deep": (NAME, 1)}], "names": {NAME}}
DETAILS_SHOWN = {SHOWN: [SHOWN, {"deep": [SHOWN, 1]}], "names": {SHOWN}}
TOO_MUCH = "x" * 450_000
VALUES = {"surrogate": NAME, "object": object, "function": lambda: None, "too much": TOO_MUCH}


@handler("report")
async def report(_payload: dict[str, Any], ctx: Context) -> None:
    await ctx.progress(0.5, NAME, details=DETAILS)


@handler("report_in_thread")
def report_in_thread(_payload: dict[str, Any], ctx: SyncContext) -> None:
    ctx.progress(0.5, NAME, details=DETAILS)


@handler("report_in_process", process=True)
def report_in_process(_payload: dict[str, Any], ctx: SyncContext) -> None:
    ctx.progress(0.5, NAME, details=DETAILS)


@handler("save")
async def save(payload: dict[str, Any], ctx: Context) -> None:
    await ctx.checkpoint({"file": VALUES[payload["value"]]})


@handler("save_in_thread")
def save_in_thread(payload: dict[str, Any], ctx: SyncContext) -> None:
    ctx.checkpoint({"file": VALUES[payload["value"]]})


@handler("save_in_process", process=True)
def save_in_process(payload: dict[str, Any], ctx: SyncContext) -> None:
    ctx.checkpoint({"file": VALUES[payload["value"]]})


@handler("detail")
async def detail(payload: dict[str, Any], ctx: Context) -> None:
    await ctx.progress(details={"file": VALUES[payload["value"]]})


@handler("detail_in_thread")
def detail_in_thread(payload: dict[str, Any], ctx: SyncContext) -> None:
    ctx.progress(details={"file": VALUES[payload["value"]]})


@handler("detail_in_process", process=True)
def detail_in_process(payload: dict[str, Any], ctx: SyncContext) -> None:
    ctx.progress(details={"file": VALUES[payload["value"]]})


@handler("give")
async def give(payload: dict[str, Any], _ctx: Context) -> Any:
    return {"file": VALUES[payload["value"]]}


@handler("give_in_thread")
def give_in_thread(payload: dict[str, Any], _ctx: SyncContext) -> Any:
    return {"file": VALUES[payload["value"]]}


@handler("give_in_process", process=True)
def give_in_process(payload: dict[str, Any], _ctx: SyncContext) -> Any:
    return {"file": VALUES[payload["value"]]}


class NoAccount(Reject):
    """A Reject whose constructor has other parameters."""

    def __init__(self, bank: str, *, number: int) -> None:
        super().__init__(f"{bank} has no account {number}", code="NO_ACCOUNT")
        self.number = number


@handler("group_in_process", process=True)
def group_in_process(_payload: dict[str, Any], _ctx: SyncContext) -> None:
    raise ExceptionGroup("all", [NoAccount("the bank", number=7)])


def plainly(function: Any) -> Any:
    """A plain decorator that sets `__wrapped__`."""

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@handler("coroutine_in_process", process=True)
@plainly
async def coroutine_in_process(_payload: dict[str, Any], _ctx: SyncContext) -> None:
    """The annotation says that the decorator awaits, which it does not."""
