"""`@handler` and `HandlerGroup`: they make functions the handlers of actions."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property, partial
from typing import Any, Generic

from streamer_store import AsyncRequest
from streamer_worker.handlers.context import Context, State
from streamer_worker.handlers.fuse import Fuse, fuse_of
from streamer_worker.handlers.limits import NO_LIMITS, ActionLimits, Scope, action_limits
from streamer_worker.handlers.schedules import Schedule, schedules_of
from streamer_worker.handlers.schema import PayloadSchema, is_async, schema_of
from streamer_worker.retry import DEFAULT_RETRY, RetryPolicy
from streamer_worker.sanitize import without_surrogates

HandlerFunction = Callable[..., Any]
CallNext = Callable[[AsyncRequest, Context[Any]], Awaitable[Any]]
"""What middleware gets as `call_next`: it calls the next middleware or the handler, returns the
result and raises what they raise. Event loop's thread only.
"""
Middleware = Callable[[CallNext, AsyncRequest, Context[Any]], Awaitable[Any]]
Lifespan = Callable[[], AbstractAsyncContextManager[State]]
_HANDLER_PARAMETERS = ("payload", "ctx")
_MIDDLEWARE_PARAMETERS = ("call_next", "request", "ctx")


class Kind(StrEnum):
    """Where a handler runs."""

    TASK = "task"
    THREAD = "thread"
    PROCESS = "process"


@dataclass(frozen=True, kw_only=True)
class Handler:
    """An action and the function that handles it. `handler` and `HandlerGroup.handler` make it.

    * `action`: the action of the requests that it handles.
    * `function`: the function itself. Calling the Handler calls it, for tests.
    * `timeout`: the time for one attempt, in seconds; None: the setting `handler.timeout`.
    * `retry`: the delays of retries.
    * `limits`: how many of the action's requests run at once, and start in a time.
    * `process`: whether a plain function runs in a process instead of a thread.
    * `schedules`: when workers make requests of the action by themselves.
    * `fuse`: when failures pause the action; None: never.
    * `faults`: what cannot be read of its options. A worker that finds any does not start.
    * `group`: the group that it belongs to; None for a handler of its own.
    * `middleware`: called around the function, outermost first. Set when it is loaded.
    * `distribution`: the name and version of its package. Set when it is loaded.
    """

    action: str
    function: HandlerFunction
    timeout: float | None = None
    retry: RetryPolicy = DEFAULT_RETRY
    limits: ActionLimits = NO_LIMITS
    process: bool = False
    schedules: tuple[Schedule, ...] = ()
    fuse: Fuse | None = None
    faults: tuple[str, ...] = ()
    group: HandlerGroup[Any] | None = field(default=None, repr=False)
    middleware: tuple[Middleware, ...] = field(default=(), repr=False)
    distribution: str | None = None

    def __call__(self, payload: Any, ctx: Any) -> Any:
        return self.function(payload, ctx)

    @cached_property
    def kind(self) -> Kind:
        """Where the function runs: as a task, in a thread or in a process."""
        if self.process:
            return Kind.PROCESS
        return Kind.TASK if is_async(self.function) else Kind.THREAD

    @property
    def max_concurrency(self) -> int | None:
        """How many of the action's requests one worker runs at once. None: it has no own limit."""
        limits = self.limits
        return limits.max_concurrency if limits.max_concurrency_scope is Scope.WORKER else None

    @property
    def in_thread(self) -> bool:
        """Whether the function runs in a thread."""
        return self.kind is Kind.THREAD

    @cached_property
    def schema(self) -> PayloadSchema:
        """The schema of the payload. Raises TypeError, which names the fault."""
        return schema_of(self.function)


class HandlerGroup(Generic[State]):
    """Handlers that share a lifespan and middleware.

    * `lifespan`: a function that returns an async context manager, as
      `contextlib.asynccontextmanager` makes it. It is entered once, before the worker polls, and
      left after the worker has drained. The value that it yields is `ctx.state` of the group's
      handlers.
    * `middleware`: async functions, the first is the outermost:
      `async def middleware(call_next, request, ctx)`. Each returns
      `await call_next(request, ctx)`, another result, or raises.

    The entry point of the package names the group, not its handlers. Raises TypeError for a
    lifespan or a middleware of another shape.
    """

    def __init__(
        self, *, lifespan: Lifespan[State] | None = None, middleware: Iterable[Middleware] = ()
    ) -> None:
        if lifespan is not None and not callable(lifespan):
            raise TypeError(f"lifespan must be a function, not {lifespan!r}")
        self.lifespan = lifespan
        self.middleware = tuple(middleware)
        self.handlers: list[Handler] = []
        for function in self.middleware:
            check_middleware(function)

    def handler(
        self,
        action: str,
        *,
        timeout: float | None = None,
        retry: RetryPolicy | None = None,
        max_concurrency: int | None = None,
        max_concurrency_scope: str = "worker",
        rate_limit: str | None = None,
        rate_limit_per_tenant: str | None = None,
        process: bool = False,
        cron: str | None = None,
        timezone: str | None = None,
        payload: Mapping[str, Any] | None = None,
        schedules: Iterable[Schedule] = (),
        pause_after_failures: int | Fuse | None = None,
    ) -> Callable[[HandlerFunction], Handler]:
        """Make a function a handler of this group. The parameters and errors are those of the
        function `handler`.
        """
        make = handler(
            action,
            timeout=timeout,
            retry=retry,
            max_concurrency=max_concurrency,
            max_concurrency_scope=max_concurrency_scope,
            rate_limit=rate_limit,
            rate_limit_per_tenant=rate_limit_per_tenant,
            process=process,
            cron=cron,
            timezone=timezone,
            payload=payload,
            schedules=schedules,
            pause_after_failures=pause_after_failures,
        )

        def define(function: HandlerFunction) -> Handler:
            defined = replace(make(function), group=self)
            self.handlers.append(defined)
            return defined

        return define


def handler(
    action: str,
    *,
    timeout: float | None = None,
    retry: RetryPolicy | None = None,
    max_concurrency: int | None = None,
    max_concurrency_scope: str = "worker",
    rate_limit: str | None = None,
    rate_limit_per_tenant: str | None = None,
    process: bool = False,
    cron: str | None = None,
    timezone: str | None = None,
    payload: Mapping[str, Any] | None = None,
    schedules: Iterable[Schedule] = (),
    pause_after_failures: int | Fuse | None = None,
) -> Callable[[HandlerFunction], Handler]:
    """Make a function `f(payload, ctx)` the handler of an action. Use it as a decorator.

    The annotation of `payload` is its schema: a pydantic model, a dataclass, a TypedDict, a
    union of these, or a dict. Where the function runs depends on its kind:

    1. `async def`: as a task on the worker's event loop, with a Context.
    2. `def`: in a thread, with a SyncContext. A thread cannot be interrupted, so a long function
       must check `ctx.cancelled`.
    3. `def` with `process`: in a process, with a SyncContext, for work that needs a CPU. The
       function must be at the top level of an importable module.

    `timeout` is in seconds, for one attempt. Without it the setting `handler.timeout` is used.
    `retry` gives the delays of retries. `max_concurrency` is how many of the action's requests
    one worker runs at once, or with `max_concurrency_scope="fleet"` all workers together.
    `rate_limit` is how many start in a time over all workers, such as `100/m`, `5/10s` or
    `100/m burst 20`, and `rate_limit_per_tenant` the same for each tenant.
    `pause_after_failures` pauses the action on all workers after so many failures within ten
    minutes on one of them, or as its Fuse says.

    With `cron`, the workers make a request of the action at these times, read in `timezone` (UTC
    by default), with this `payload`. `schedules` are further ones, with more options (Schedule).

    To install the handler, name it in the entry points of your package, in the group
    `streamer_worker.handlers`.

    Raises TypeError for a function of another shape or a wrong type of an option, ValueError
    for a value that is out of range. Rates and cron expressions are read when a worker starts,
    which names all that it cannot read.

    >>> import anyio
    >>> from streamer_worker.testing import run_handler
    >>> @handler("count_words", timeout=30)
    ... async def count_words(payload: dict[str, str], ctx: Context) -> int:
    ...     return len(payload["text"].split())
    >>> run = anyio.run(run_handler, count_words, {"text": "to be or not"})
    >>> run.status, run.result
    ('completed', {'data': 4})
    """
    _check_action(action)
    _check_timeout(timeout, action)
    if retry is not None and not isinstance(retry, RetryPolicy):
        raise TypeError(f"retry of action {action!r} must be a RetryPolicy, not {retry!r}")
    faults: list[str] = []
    limits = action_limits(
        action,
        faults,
        max_concurrency=max_concurrency,
        max_concurrency_scope=max_concurrency_scope,
        rate_limit=rate_limit,
        rate_limit_per_tenant=rate_limit_per_tenant,
    )
    return partial(
        _define,
        action=action,
        timeout=timeout,
        retry=retry or DEFAULT_RETRY,
        process=process,
        limits=limits,
        faults=tuple(faults),
        schedules=schedules_of(
            action, cron=cron, timezone=timezone, payload=payload, schedules=schedules
        ),
        fuse=fuse_of(pause_after_failures, action),
    )


def check_middleware(function: object) -> None:
    """Raise TypeError unless `function` is `async def middleware(call_next, request, ctx)`."""
    if not callable(function) or not inspect.iscoroutinefunction(function):
        raise TypeError(f"middleware must be an async function, not {function!r}")
    _check_parameters(function, _MIDDLEWARE_PARAMETERS, f"middleware {_name(function)}")


def _check_action(action: object) -> None:
    if not isinstance(action, str) or not action:
        raise TypeError("@handler needs the name of an action, as in @handler('generate_report')")
    if without_surrogates(action) != action:
        raise ValueError(f"the action {action!r} holds a lone surrogate, which is not UTF-8")


def _check_timeout(timeout: object, action: str) -> None:
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout of action {action!r} must be a number, not {timeout!r}")
    if not 0 < timeout < math.inf:
        raise ValueError(f"the timeout of action {action!r} must be positive, in seconds")


def _define(function: HandlerFunction, *, action: str, **options: Any) -> Handler:
    subject = f"handler {_name(function)} of action {action!r}"
    if not _is_function(function) or _yields(function):
        raise TypeError(f"{subject} must be a function, async or not")
    if options["process"] and is_async(function):
        raise TypeError(f"{subject} must be a plain function to run in a process")
    _check_parameters(function, _HANDLER_PARAMETERS, subject)
    return Handler(action=action, function=function, **options)


def _check_parameters(function: Callable[..., Any], names: tuple[str, ...], subject: str) -> None:
    try:
        inspect.signature(function).bind(*names)
    except TypeError as error:
        raise TypeError(f"{subject} must take ({', '.join(names)}): {error}") from error


def _name(function: object) -> str:
    return getattr(function, "__qualname__", repr(function))


def _is_function(value: object) -> bool:
    return inspect.isroutine(value) or isinstance(value, partial)


def _yields(function: HandlerFunction) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
