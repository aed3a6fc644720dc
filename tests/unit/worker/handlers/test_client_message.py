"""Handlers' own messages: what they may be, whom they name, and how each kind of handler sends."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import anyio
import pytest
from pydantic import BaseModel

from streamer_store import ValidationError
from streamer_worker import Context, HandlerCancelled, SyncContext, handler
from streamer_worker.handlers.client_message import MAX_BYTES, to_connection, to_connections_of
from streamer_worker.push.messages import MAX_BYTES as MAX_POSTED
from streamer_worker.push.messages import HandlerMessage, encode
from streamer_worker.testing import SentMessage, run_handler, start_handler
from support import START
from unit.worker.harness import on_asyncio


class _Model(BaseModel):
    at: datetime


@dataclass
class _Row:
    name: str


@pytest.mark.parametrize(
    ("message", "data"),
    [
        ({"word": "grün"}, {"word": "grün"}),
        ("text", "text"),
        (None, None),
        ([1, 2.5, True], [1, 2.5, True]),
        (_Model(at=datetime(2026, 1, 2, tzinfo=UTC)), {"at": "2026-01-02T00:00:00Z"}),
        ({"row": _Row("a")}, {"row": {"name": "a"}}),
        (
            {"sum": Decimal("1.5"), "raw": b"ab", "names": {"b", "a"}},
            {"sum": 1.5, "raw": "YWI=", "names": ["a", "b"]},
        ),
    ],
)
def test_a_message_is_any_value_that_json_has(message: Any, data: Any) -> None:
    """Models, dataclasses and the values of a table are converted."""
    assert json.loads(to_connection(message).data) == data


_LOOP: list[Any] = []
_LOOP.append(_LOOP)


@pytest.mark.parametrize(
    "message",
    [object(), float("nan"), {("a", "b"): 1}, "\ud800", _LOOP, {1, "a"}, b"\xff" * MAX_BYTES],
    ids=["object", "nan", "key", "surrogate", "loop", "mixed set", "too long"],
)
def test_a_message_that_json_cannot_hold_is_refused(message: Any) -> None:
    """In words, and before anything is sent."""
    with pytest.raises(
        ValidationError, match=r"^message: (cannot be written as JSON|has \d+ bytes)"
    ):
        to_connection(message)


def test_the_longest_message_can_be_posted() -> None:
    """API Gateway takes it with the longest request id."""
    longest = to_connection("x" * (MAX_BYTES - 2))
    with pytest.raises(ValidationError, match=f"may have {MAX_BYTES}: send a part"):
        to_connection("x" * (MAX_BYTES - 1))
    posted = HandlerMessage(
        request_id="\x01" * 2048,
        connection_id="c1",
        at=START,
        attempt=10**9,
        data=longest.data,
        user=None,
        tenant=None,
    )
    assert len(encode(posted)) <= MAX_POSTED


def test_a_message_has_its_request_and_attempt_beside_the_data() -> None:
    """A client tells it from progress and outcomes by its type."""
    posted = HandlerMessage(
        request_id="r1",
        connection_id="c1",
        at=START,
        attempt=2,
        data='{"type":"complete"}',
        user=None,
        tenant=None,
    )
    assert json.loads(encode(posted)) == {
        "type": "message",
        "request_id": "r1",
        "attempt": 2,
        "timestamp": int(START.timestamp()),
        "data": {"type": "complete"},
    }


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ({}, "needs `user` or `tenant`, and has neither"),
        ({"user": "u", "tenant": "t"}, "needs `user` or `tenant`, and has both"),
        ({"user": ""}, "user: must be a text that is not empty, not ''"),
        ({"tenant": 7}, "tenant: must be a text that is not empty, not 7"),
        ({"user": "x" * 2049}, "user: is longer than 2048 bytes"),
    ],
)
def test_a_broadcast_names_a_user_or_a_tenant(names: dict[str, Any], text: str) -> None:
    """Nothing else: nobody means a broadcast to all."""
    with pytest.raises(ValidationError, match=text):
        to_connections_of("hello", **names)


def _send_all(_payload: Any, ctx: SyncContext) -> None:
    ctx.send({"n": 1})
    ctx.broadcast({"n": 2}, user="u2")
    thread = threading.Thread(target=ctx.broadcast, args=[{"n": 3}], kwargs={"tenant": "t3"})
    thread.start()
    thread.join()


async def _send_all_async(_payload: Any, ctx: Context) -> None:
    await ctx.send({"n": 1})
    await ctx.broadcast({"n": 2}, user="u2")
    await ctx.broadcast({"n": 3}, tenant="t3")


class UserId(str):  # noqa: SLOT000
    """A text that cannot be unpickled, as its class takes two arguments."""

    def __new__(cls, kind: str, number: int) -> UserId:  # noqa: PYI034
        return super().__new__(cls, f"{kind}-{number}")


def _send_to_class(_payload: Any, ctx: SyncContext) -> None:
    ctx.progress(0.5, UserId("step", 1))
    ctx.broadcast("hello", user=UserId("user", 1))


def _report_class(_payload: Any, ctx: SyncContext) -> None:
    ctx.progress(0.5, details={"user": UserId("user", 1)})


to_class = handler("to-class", process=True)(_send_to_class)
report_class = handler("report-class", process=True)(_report_class)
in_thread = handler("in-thread")(_send_all)
in_process = handler("in-process", process=True)(_send_all)
in_loop = handler("in-loop")(_send_all_async)


@pytest.mark.anyio
@on_asyncio
@pytest.mark.parametrize("which", [in_thread, in_process, in_loop], ids=lambda one: one.action)
async def test_every_kind_of_handler_sends(which: Any) -> None:
    """On the event loop, in a thread, in a thread of its own, and in a process."""
    run = await run_handler(which, connection_id="c1")
    assert run.status == "completed", run.error
    assert run.sent == [
        SentMessage({"n": 1}),
        SentMessage({"n": 2}, user="u2"),
        SentMessage({"n": 3}, tenant="t3"),
    ]
    pushed = [message["data"]["n"] for message in run.pushed if message["type"] == "message"]
    assert pushed == [1, 2, 3]
    assert run.pushed[-1]["type"] == "complete"


@pytest.mark.anyio
@on_asyncio
async def test_an_invalid_message_fails_the_attempt_in_words() -> None:
    """Unless the handler catches the error."""

    @handler("bad")
    async def bad(_payload: dict[str, Any], ctx: Context) -> None:
        await ctx.send(object())

    run = await run_handler(bad)
    assert run.status == "failed"
    assert run.request.error_code == "INVALID_MESSAGE"
    assert "message: cannot be written as JSON: object has no form" in str(run.request.error)


@pytest.mark.anyio
@on_asyncio
async def test_a_cancelled_handler_sends_nothing() -> None:
    """A thread gets HandlerCancelled, and what an async handler sends while it ends is dropped."""
    ended: list[str] = []

    @handler("thread")
    def in_a_thread(_payload: dict[str, Any], ctx: SyncContext) -> None:
        ctx.send("before")
        while not ctx.cancelled:
            threading.Event().wait(0.001)
        try:
            ctx.send("after")
        except HandlerCancelled:
            ended.append("HandlerCancelled")
            raise

    async with start_handler(in_a_thread, connection_id="c1") as run:
        await run.until(lambda run: len(run.sent) == 1)
        await run.cancel()
    assert ended == ["HandlerCancelled"]
    assert [message["data"] for message in run.pushed if message["type"] == "message"] == ["before"]

    @handler("loop")
    async def on_the_loop(_payload: dict[str, Any], ctx: Context) -> None:
        await ctx.send("before")
        try:
            await anyio.sleep_forever()
        finally:
            ctx.channel.send(to_connection("after"))

    async with start_handler(on_the_loop, connection_id="c1") as run:
        await run.until(lambda run: len(run.sent) == 1)
        await run.cancel()
    assert [message["data"] for message in run.pushed if message["type"] == "message"] == ["before"]


@pytest.mark.anyio
@on_asyncio
async def test_a_text_of_a_class_of_its_own_is_a_text() -> None:
    """The worker need not be able to unpickle its class."""
    run = await run_handler(to_class)
    assert run.status == "completed", run.error
    assert run.sent == [SentMessage("hello", user="user-1")]
    assert [progress.message for progress in run.progress] == ["step-1"]


@pytest.mark.anyio
@on_asyncio
async def test_what_cannot_be_unpickled_ends_the_attempt() -> None:
    """The worker does not wait for a process that it no longer understands."""
    with anyio.fail_after(30):
        run = await run_handler(report_class, max_retries=0)
    assert (run.status, run.request.error_code) == ("failed", "WORKER_CRASHED")
    assert "what the handler reported cannot be read here" in str(run.request.error)
