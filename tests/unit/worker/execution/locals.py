"""Handlers that end in many ways, and record when their local variables are freed."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import anyio.lowlevel

from streamer_worker import Context, Handler, Reject, RetryLater, SyncContext, handler


class Local:
    """An object that a handler holds in a local variable."""


class Locals:
    """Weak references to the objects that handlers held in local variables."""

    def __init__(self) -> None:
        self._references: list[weakref.ref[Local]] = []

    def new(self) -> Local:
        local = Local()
        self._references.append(weakref.ref(local))
        return local

    @property
    def made(self) -> int:
        return len(self._references)

    @property
    def alive(self) -> int:
        return sum(reference() is not None for reference in self._references)


class Failure(Exception):
    """An exception that refers to itself by an attribute."""

    def __init__(self) -> None:
        super().__init__("failed")
        self.itself = self


class UnreadableReject(Reject):
    """An exception whose code cannot be read."""

    @property
    def code(self) -> NoReturn:
        raise RuntimeError("not this one")

    @code.setter
    def code(self, _value: object) -> None:
        """Accept what the constructor sets."""


def plain(local: Local) -> NoReturn:
    raise ValueError(type(local).__name__)


def from_variable(_local: Local) -> NoReturn:
    error = ValueError("in a local variable")
    raise error


def with_cause(local: Local) -> NoReturn:
    try:
        from_variable(local)
    except ValueError as error:
        cause = error
        raise RuntimeError("caused") from cause


def with_context(local: Local) -> NoReturn:
    try:
        from_variable(local)
    except ValueError as error:
        context = error
        assert context.args
        raise RuntimeError("meanwhile") from None


def retried_itself(local: Local) -> NoReturn:
    failures: list[Exception] = []
    last: Exception | None = None
    for fail in (plain, from_variable):
        try:
            fail(local)
        except ValueError as error:
            failures.append(error)
            last = error
    raise RuntimeError(f"{len(failures)} failures, {type(last).__name__} at the end")


def circular(local: Local) -> NoReturn:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert type(local) is Local
    raise first


def group(local: Local) -> NoReturn:
    members: list[Exception] = []
    for fail in (plain, with_cause, with_context):
        try:
            fail(local)
        except Exception as error:  # noqa: BLE001
            members.append(error)
    raise ExceptionGroup("outer", [ExceptionGroup("inner", members), ValueError("alone")])


def rejects(local: Local) -> NoReturn:
    error = Reject(type(local).__name__)
    raise error


def rejects_in_group(local: Local) -> NoReturn:
    members: list[Exception] = []
    for _ in range(2):
        try:
            rejects(local)
        except Reject as error:
            members.append(error)
    raise ExceptionGroup("rejected", members)


def later(local: Local) -> NoReturn:
    error = RetryLater(type(local).__name__, after=1)
    raise error


def later_in_group(local: Local) -> NoReturn:
    members: list[Exception] = []
    for _ in range(2):
        try:
            later(local)
        except RetryLater as error:
            members.append(error)
    raise ExceptionGroup("later", members)


def of_own_class(_local: Local) -> NoReturn:
    error = Failure()
    raise error


def unreadable(_local: Local) -> NoReturn:
    error = UnreadableReject("unreadable")
    raise error


def exits(_local: Local) -> NoReturn:
    error = SystemExit(3)
    raise error


# Ways to fail that need no event loop.
FAILURES: tuple[Callable[[Local], NoReturn], ...] = (
    plain,
    from_variable,
    with_cause,
    with_context,
    retried_itself,
    circular,
    group,
    rejects,
    rejects_in_group,
    later,
    later_in_group,
    of_own_class,
    unreadable,
    exits,
)


async def in_task_group(local: Local) -> None:
    async def fail() -> None:
        from_variable(local)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fail)
        tasks.start_soon(fail)


async def in_gather(local: Local) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        plain(local)

    await asyncio.gather(fail(), fail())


async def in_async_generator(local: Local) -> None:
    async def numbers() -> Any:
        held = local
        yield 1
        from_variable(held)

    async for _ in numbers():
        await anyio.lowlevel.checkpoint()


async def in_context_manager(local: Local) -> None:
    @contextmanager
    def manager() -> Iterator[None]:
        held = local
        try:
            yield
        except ValueError as error:
            kept = error
            assert type(held) is Local
            raise RuntimeError("from the manager") from kept

    with manager():
        from_variable(local)


def failing(locals_: Locals, fail: Callable[[Local], Any]) -> Handler:
    """Make an async handler that holds a local and fails."""

    @handler("fail")
    async def work(_payload: dict[str, Any], _ctx: Context) -> None:
        local = locals_.new()
        await anyio.lowlevel.checkpoint()
        fail(local)

    return work


def failing_async(locals_: Locals, fail: Callable[[Local], Any]) -> Handler:
    """Make an async handler that holds a local and fails where it awaits."""

    @handler("fail")
    async def work(_payload: dict[str, Any], _ctx: Context) -> None:
        local = locals_.new()
        await fail(local)

    return work


def failing_in_thread(locals_: Locals, fail: Callable[[Local], Any]) -> Handler:
    """Make a plain function that holds a local and fails in a thread."""

    @handler("fail")
    def work(_payload: dict[str, Any], _ctx: SyncContext) -> None:
        local = locals_.new()
        fail(local)

    return work
