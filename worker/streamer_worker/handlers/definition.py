"""`@handler`: a function becomes the handler of an action."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from streamer_worker.retry import DEFAULT_RETRY, RetryPolicy

HandlerFunction = Callable[..., Any]
_PARAMETERS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """An action and the function that answers it; calling it calls the function.

    `timeout` is in seconds, None for the worker's own; `max_concurrency` bounds how many of
    the action's requests one worker runs at once. A plain `def` runs in a thread.
    """

    action: str
    function: HandlerFunction
    timeout: float | None = None
    retry: RetryPolicy = DEFAULT_RETRY
    max_concurrency: int | None = None

    def __call__(self, payload: dict[str, Any], ctx: Any) -> Any:
        return self.function(payload, ctx)

    @property
    def in_thread(self) -> bool:
        return not inspect.iscoroutinefunction(self.function)


def handler(
    action: str,
    *,
    timeout: float | None = None,
    retry: RetryPolicy | None = None,
    max_concurrency: int | None = None,
) -> Callable[[HandlerFunction], Handler]:
    """Make an `async def f(payload, ctx)`, or a plain `def`, the handler of `action`.

    A plain function runs in a thread and is given a SyncContext; it cannot be interrupted, so
    long ones look at `ctx.cancelled`. Name the handler in the entry points of your package,
    group `streamer_worker.handlers`. Raises TypeError when the function has another shape,
    ValueError for a timeout or a limit that makes no sense.
    """
    if not _is_name(action):
        raise TypeError("@handler needs the name of an action, as in @handler('generate_report')")
    _check_number("timeout", timeout, action)
    if timeout is not None and not (0 < timeout < math.inf):
        raise ValueError(f"the timeout of action {action!r} must be positive, in seconds")
    if retry is not None and not isinstance(retry, RetryPolicy):
        raise TypeError(f"retry of action {action!r} must be a RetryPolicy, not {retry!r}")
    _check_number("max_concurrency", max_concurrency, action)
    if max_concurrency is not None and max_concurrency < 1:
        raise ValueError(f"max_concurrency of action {action!r} must be 1 or more")

    def define(function: HandlerFunction) -> Handler:
        name = getattr(function, "__qualname__", repr(function))
        if not _is_function(function) or _yields(function):
            raise TypeError(f"handler {name} of action {action!r} must be a function, async or not")
        try:
            inspect.signature(function).bind(*[None] * _PARAMETERS)
        except TypeError as error:
            raise TypeError(
                f"handler {name} of action {action!r} must take (payload, ctx): {error}"
            ) from error
        return Handler(
            action=action,
            function=function,
            timeout=timeout,
            retry=retry or DEFAULT_RETRY,
            max_concurrency=max_concurrency,
        )

    return define


def _check_number(name: str, given: object, action: str) -> None:
    if given is not None and (isinstance(given, bool) or not isinstance(given, int | float)):
        raise TypeError(f"{name} of action {action!r} must be a number, not {given!r}")


def _is_name(given: object) -> bool:
    return isinstance(given, str) and bool(given)


def _is_function(given: object) -> bool:
    return inspect.isroutine(given) or isinstance(given, partial)


def _yields(function: HandlerFunction) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
