"""`@handler` and `HandlerGroup`: functions become the handlers of actions."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, partial
from typing import Any, Generic

from streamer_store import AsyncRequest
from streamer_worker.handlers.context import Context, State
from streamer_worker.handlers.schema import PayloadSchema, is_async, schema_of
from streamer_worker.retry import DEFAULT_RETRY, RetryPolicy
from streamer_worker.sanitize import without_surrogates

HandlerFunction = Callable[..., Any]
CallNext = Callable[[AsyncRequest, Context[Any]], Awaitable[Any]]
Middleware = Callable[[CallNext, AsyncRequest, Context[Any]], Awaitable[Any]]
Lifespan = Callable[[], AbstractAsyncContextManager[State]]
_HANDLER_TAKES = ("payload", "ctx")
_MIDDLEWARE_TAKES = ("call", "request", "ctx")


class Kind(StrEnum):
    """Where a handler runs."""

    TASK = "task"
    THREAD = "thread"
    PROCESS = "process"


@dataclass(frozen=True, kw_only=True)
class Handler:
    """An action and the function that answers it; calling it calls the function.

    `timeout` is in seconds, None for the worker's own; `max_concurrency` bounds how many of
    the action's requests one worker runs at once. A plain `def` runs in a thread, or with
    `process` in a process. `distribution` is the package that it was found in, and
    `middleware` what is called around it, the outermost first: both are set when it is loaded.
    """

    action: str
    function: HandlerFunction
    timeout: float | None = None
    retry: RetryPolicy = DEFAULT_RETRY
    max_concurrency: int | None = None
    process: bool = False
    group: HandlerGroup[Any] | None = field(default=None, repr=False)
    middleware: tuple[Middleware, ...] = field(default=(), repr=False)
    distribution: str | None = None

    def __call__(self, payload: Any, ctx: Any) -> Any:
        return self.function(payload, ctx)

    @cached_property
    def kind(self) -> Kind:
        if self.process:
            return Kind.PROCESS
        return Kind.TASK if is_async(self.function) else Kind.THREAD

    @property
    def in_thread(self) -> bool:
        return self.kind is Kind.THREAD

    @cached_property
    def schema(self) -> PayloadSchema:
        """What the payload must be. Raises TypeError, saying what is wrong where."""
        return schema_of(self.function)


class HandlerGroup(Generic[State]):
    """Handlers that share what `lifespan` opens, and `middleware`.

    The lifespan is entered once, before the worker polls, and left after it has drained; what
    it gives is the `state` of each handler's context. Middleware is
    `async def middleware(call_next, request, ctx)` and returns `await call_next(request, ctx)`, or does
    something else; the first is the outermost. Raises TypeError for what has another shape.
    """

    def __init__(
        self, *, lifespan: Lifespan[State] | None = None, middleware: Iterable[Middleware] = ()
    ) -> None:
        if lifespan is not None and not callable(lifespan):
            raise TypeError(f"lifespan must be a function, not {lifespan!r}")
        self.lifespan = lifespan
        self.middleware = tuple(middleware)
        self.handlers: list[Handler] = []
        for each in self.middleware:
            check_middleware(each)

    def handler(
        self,
        action: str,
        *,
        timeout: float | None = None,
        retry: RetryPolicy | None = None,
        max_concurrency: int | None = None,
        process: bool = False,
    ) -> Callable[[HandlerFunction], Handler]:
        """As the function `handler`; the entry point names the group."""
        rules = _rules(action, timeout, retry, max_concurrency, process=process)

        def define(function: HandlerFunction) -> Handler:
            made = _define(function, group=self, **rules)
            self.handlers.append(made)
            return made

        return define


def handler(
    action: str,
    *,
    timeout: float | None = None,
    retry: RetryPolicy | None = None,
    max_concurrency: int | None = None,
    process: bool = False,
) -> Callable[[HandlerFunction], Handler]:
    """Make an `async def f(payload, ctx)`, or a plain `def`, the handler of `action`.

    The annotation of the payload is its schema: a pydantic model, a dataclass, a TypedDict, a
    union of those, or a dict. A plain function runs in a thread and is given a SyncContext; it
    cannot be interrupted, so long ones look at `ctx.cancelled`. With `process` it runs in a
    process of its own, for work that needs a CPU. Name the handler in the entry points of your
    package, group `streamer_worker.handlers`. Raises TypeError when the function has another
    shape, ValueError for a timeout or a limit that makes no sense.
    """
    rules = _rules(action, timeout, retry, max_concurrency, process=process)
    return partial(_define, **rules)


def check_middleware(given: object) -> None:
    """Raise TypeError unless it is `async def middleware(call, request, ctx)`."""
    if not callable(given) or not inspect.iscoroutinefunction(given):
        raise TypeError(f"middleware must be an async function, not {given!r}")
    _check_parameters(given, _MIDDLEWARE_TAKES, f"middleware {_name(given)}")


def _rules(
    action: object,
    timeout: float | None,
    retry: RetryPolicy | None,
    max_concurrency: int | None,
    *,
    process: bool,
) -> dict[str, Any]:
    if not isinstance(action, str) or not action:
        raise TypeError("@handler needs the name of an action, as in @handler('generate_report')")
    if without_surrogates(action) != action:
        raise ValueError(f"the action {action!r} holds a lone surrogate, which is not UTF-8")
    _check_number("timeout", timeout, action)
    if timeout is not None and not (0 < timeout < math.inf):
        raise ValueError(f"the timeout of action {action!r} must be positive, in seconds")
    if retry is not None and not isinstance(retry, RetryPolicy):
        raise TypeError(f"retry of action {action!r} must be a RetryPolicy, not {retry!r}")
    _check_number("max_concurrency", max_concurrency, action)
    if max_concurrency is not None and max_concurrency < 1:
        raise ValueError(f"max_concurrency of action {action!r} must be 1 or more")
    return {
        "action": action,
        "timeout": timeout,
        "retry": retry or DEFAULT_RETRY,
        "max_concurrency": max_concurrency,
        "process": process,
    }


def _define(
    function: HandlerFunction, *, action: str, group: HandlerGroup[Any] | None = None, **rules: Any
) -> Handler:
    who = f"handler {_name(function)} of action {action!r}"
    if not _is_function(function) or _yields(function):
        raise TypeError(f"{who} must be a function, async or not")
    if rules["process"] and is_async(function):
        raise TypeError(f"{who} must be a plain function to run in a process")
    _check_parameters(function, _HANDLER_TAKES, who)
    return Handler(action=action, function=function, group=group, **rules)


def _check_parameters(function: Callable[..., Any], names: tuple[str, ...], who: str) -> None:
    try:
        inspect.signature(function).bind(*names)
    except TypeError as error:
        raise TypeError(f"{who} must take ({', '.join(names)}): {error}") from error


def _check_number(name: str, given: object, action: str) -> None:
    if given is not None and (isinstance(given, bool) or not isinstance(given, int | float)):
        raise TypeError(f"{name} of action {action!r} must be a number, not {given!r}")


def _name(given: object) -> str:
    return getattr(given, "__qualname__", repr(given))


def _is_function(given: object) -> bool:
    return inspect.isroutine(given) or isinstance(given, partial)


def _yields(function: HandlerFunction) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
