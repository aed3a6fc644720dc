"""`@handler`: a function becomes the handler of an action."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from streamer_worker.handlers.context import Context

HandlerFunction = Callable[[dict[str, Any], Context], Awaitable[Any]]
_PARAMETERS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """An action and the function that answers it; calling it calls the function."""

    action: str
    function: HandlerFunction

    def __call__(self, payload: dict[str, Any], ctx: Context) -> Awaitable[Any]:
        return self.function(payload, ctx)


def handler(action: str) -> Callable[[HandlerFunction], Handler]:
    """Make an `async def f(payload, ctx)` the handler of `action`.

    Name it in the entry points of your package, group `streamer_worker.handlers`. Raises
    TypeError when the function has another shape.
    """
    if not _is_name(action):
        raise TypeError("@handler needs the name of an action, as in @handler('generate_report')")

    def define(function: HandlerFunction) -> Handler:
        name = getattr(function, "__qualname__", repr(function))
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"handler {name} of action {action!r} must be an async function")
        try:
            inspect.signature(function).bind(*[None] * _PARAMETERS)
        except TypeError as error:
            raise TypeError(
                f"handler {name} of action {action!r} must take (payload, ctx): {error}"
            ) from error
        return Handler(action=action, function=function)

    return define


def _is_name(given: object) -> bool:
    return isinstance(given, str) and bool(given)
