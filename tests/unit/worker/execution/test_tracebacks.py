"""Tracebacks of exceptions are removed once they are logged."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

import anyio.lowlevel
import pytest

from streamer_worker import Context, handler
from streamer_worker.events import Event, Events, HandlerRaised
from streamer_worker.execution.tracebacks import drop_tracebacks, related_exceptions
from unit.worker.benches import DispatchBench
from unit.worker.harness import World


class Unreadable(Exception):
    """An exception whose attributes raise."""

    @property
    def _raises(self) -> NoReturn:
        raise RuntimeError("unreadable")

    __cause__ = __context__ = __traceback__ = _raises


Raised = TypeVar("Raised", bound=BaseException)


def raised_by(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except BaseException as error:  # noqa: BLE001
        return error
    raise AssertionError


def raised(error: Raised) -> Raised:
    def fails() -> NoReturn:
        raise error

    assert raised_by(fails) is error
    return error


def test_a_long_chain_is_followed_to_its_end() -> None:
    """Without recursion."""
    first: BaseException = raised(ValueError("0"))
    error = first
    for number in range(20_000):
        error.__context__ = raised(ValueError(f"{number}"))
        error = error.__context__
    assert len(related_exceptions(first)) == 20_001
    drop_tracebacks(first)
    assert error.__traceback__ is None


def test_members_of_groups_and_local_collections_are_found() -> None:
    """Of a collection only the first hundred members are read."""

    def fails() -> None:
        many = [ValueError(f"{number}") for number in range(200)]
        few = {"key": KeyError(), "other": 1}
        both = (TypeError(), {OSError()})
        raise ExceptionGroup("group", [raised(RuntimeError(f"{len(many) + len(few)}, {both}"))])

    kinds = [type(error) for error in related_exceptions(raised_by(fails))]
    assert sorted({kind.__name__ for kind in kinds}) == [
        "ExceptionGroup",
        "KeyError",
        "RuntimeError",
        "TypeError",
        "ValueError",
    ]
    assert kinds.count(ValueError) == 100


def test_attributes_of_a_class_are_not_used() -> None:
    """They may be properties that raise."""

    def fails() -> None:
        local = Unreadable()
        raise Unreadable(local.args)

    error = raised_by(fails)
    assert len(related_exceptions(error)) == 2
    drop_tracebacks(error)
    assert vars(BaseException)["__traceback__"].__get__(error) is None


def test_a_generator_that_has_passed_its_exception_on_continues() -> None:
    """Its frame is in the traceback, and is not cleared."""

    def fails() -> NoReturn:
        raise ValueError("passed on")

    def numbers() -> Iterator[Any]:
        local = "still here"
        try:
            fails()
        except ValueError as error:
            yield error
        yield local

    running = numbers()
    error = next(running)
    drop_tracebacks(error)
    assert next(running) == "still here"


@pytest.mark.anyio
async def test_listeners_get_the_exception_with_all_tracebacks(world: World) -> None:
    """Those of its cause and of the members of a group, too."""
    texts: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, HandlerRaised):
            texts.append("".join(traceback.format_exception(event.error)))

    @handler("fail")
    async def fail(_payload: dict[str, Any], _ctx: Context) -> None:
        async def find_no_rows() -> None:
            await anyio.lowlevel.checkpoint()
            raise ValueError("no rows")

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(find_no_rows)
        except ExceptionGroup as group:
            raise RuntimeError("no report") from group

    world.events = Events(listen)
    bench = DispatchBench(world, fail)
    assert await bench.run(await world.claim("fail")) == "failed"
    (text,) = texts
    assert all(line in text for line in ("in fail", "in find_no_rows", "direct cause"))
