"""Finds the code that blocks an event loop, and the request that it belongs to."""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

from structlog.contextvars import get_contextvars

# Modules through which the event loop calls a handler. Their frames say nothing about it.
_CALLERS: Final = (
    "anyio",
    "asyncio",
    "streamer_worker.execution.attempt",
    "streamer_worker.execution.invoker",
)
# Not part of asyncio's interface. Without it the whole stack is reported, and no request.
_RUN_CALLBACK: Final = getattr(getattr(asyncio.Handle, "_run", None), "__code__", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockingCode:
    """The code that a thread runs.

    `stack`: its stack, innermost call last. With a request it begins with the handler's or
    middleware's own code. Empty: the thread has ended. `action`, `request_id`: those of the
    request to which it belongs, None if it belongs to none.
    """

    stack: str
    action: str | None = None
    request_id: str | None = None


def blocking_code(thread_id: int) -> BlockingCode:
    """Return the code that the thread of an asyncio event loop runs now. Any thread."""
    frame = sys._current_frames().get(thread_id)  # noqa: SLF001  the documented way to a stack
    frames = list(_outwards(frame))
    called, fields = _callback(frames)
    if "request_id" in fields:
        while called and _is_caller(called[0]):
            del called[0]
    inner = called or frames[::-1]
    stack = traceback.StackSummary.extract((each, each.f_lineno) for each in inner)
    return BlockingCode(
        stack="".join(stack.format()),
        action=_text(fields.get("action")),
        request_id=_text(fields.get("request_id")),
    )


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _callback(frames: list[FrameType]) -> tuple[list[FrameType], Mapping[str, Any]]:
    """Return the frames of the callback that the loop runs, outermost first, and the log fields
    that are bound in it. A task step is a callback. Empty: the loop runs none.

    The loop's own frame knows the context of any task, also of one that a handler has started.
    """
    for depth, frame in enumerate(frames):
        if frame.f_code is _RUN_CALLBACK:
            context = getattr(frame.f_locals.get("self"), "_context", None)
            # The context itself is entered already, by the thread that is blocked.
            fields = context.copy().run(get_contextvars) if context is not None else {}
            return frames[:depth][::-1], fields
    return [], {}


def _is_caller(frame: FrameType) -> bool:
    name = str(frame.f_globals.get("__name__"))
    return name in _CALLERS or name.partition(".")[0] in _CALLERS


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
