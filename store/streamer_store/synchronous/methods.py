"""Synchronous methods, made from the asynchronous ones of the contracts.

Each has the parameters, the result, the errors and the docstring of its original. So the contracts
are the only place where they are written down, and type checkers and editors know them.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from collections.abc import (
    Set as AbstractSet,
)
from contextlib import suppress
from functools import partial, wraps
from inspect import signature
from itertools import islice
from queue import SimpleQueue
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from streamer_store.errors import StoreError
from streamer_store.stores import Stores
from streamer_store.synchronous.thread import Step, StoresThread

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Entry = TypeVar("Entry")
_ITEMS_PER_STEP: Final = 25
_MAX_BATCH: Final = 100


class SyncMethods:
    """Has methods that call those of a store in the event loop of `thread`.

    `of`: returns that store.
    """

    def __init__(self, thread: StoresThread, of: Callable[[Stores], Any]) -> None:
        self._thread = thread
        self._of = of


def blocking(
    method: Callable[Concatenate[Any, Parameters], Awaitable[Result]],
) -> Callable[Concatenate[Any, Parameters], Result]:
    """Return a method that waits for the result. It reads iterators among its arguments first."""
    name = _name(method)

    @wraps(method)
    def call(
        self: SyncMethods, /, *arguments: Parameters.args, **options: Parameters.kwargs
    ) -> Result:
        # Here, because an iterator may use what belongs to this thread, as a Django query does.
        values = [_read(value) for value in arguments]
        given = {option: _read(value) for option, value in options.items()}

        async def work(stores: Stores) -> Result:
            result: Result = await getattr(self._of(stores), name)(*values, **given)
            return result

        return self._thread.call(work)

    return call


def blocking_bulk(
    method: Callable[Concatenate[Any, Parameters], Awaitable[Result]],
) -> Callable[Concatenate[Any, Parameters], Result]:
    """As `blocking`, for a bulk operation. Its items are iterated over in the caller's thread.

    `on_result` is called there, too. An iterator is read as the work goes on, 25 items at a time.
    """
    name = _name(method)
    items = list(signature(method).parameters)[1]

    @wraps(method)
    def call(
        self: SyncMethods, /, *arguments: Parameters.args, **options: Parameters.kwargs
    ) -> Result:
        async def work(stores: Stores, steps: SimpleQueue[Step | None]) -> Result:
            values: list[Any] = list(arguments)
            given: dict[str, Any] = dict(options)
            if values and _is_lazy(values[0]):
                values[0] = _from_caller(values[0], steps)
            elif _is_lazy(given.get(items)):
                given[items] = _from_caller(given[items], steps)
            if (on_result := given.get("on_result")) is not None:
                given["on_result"] = lambda result: steps.put(partial(on_result, result))
            result: Result = await getattr(self._of(stores), name)(*values, **given)
            return result

        return self._thread.call_with_steps(work)

    return call


def blocking_iterator(
    method: Callable[Concatenate[Any, Parameters], AsyncIterator[Entry]],
) -> Callable[Concatenate[Any, Parameters], Generator[Entry, None, None]]:
    """Return a method that returns an ordinary iterator, whose memory is bounded.

    If the iteration ends early, close the iterator or drop it: it stops reading.
    """
    name = _name(method)

    @wraps(method)
    def iterate(
        self: SyncMethods, /, *arguments: Parameters.args, **options: Parameters.kwargs
    ) -> Generator[Entry, None, None]:
        entries: AsyncIterator[Entry] = getattr(self._of(self._thread.stores()), name)(
            *arguments, **options
        )
        # The first entry is given out as soon as it is there. Later ones share calls.
        size, is_last = 1, False
        try:
            while not is_last:
                is_last = True  # and if the call raises: then there is nothing to close
                batch, error, ended = self._thread.call(partial(_pull, entries, size))
                is_last = ended
                yield from batch
                if error is not None:
                    raise error
                size = min(2 * size, _MAX_BATCH)
        finally:
            if not is_last:
                with suppress(StoreError):  # the stores are closed, which closes it
                    self._thread.call(lambda _: _close(entries))

    return iterate


def _name(method: Callable[..., Any]) -> str:
    name: str = method.__name__
    return name


def _read(value: Any) -> Any:
    return list(value) if _is_lazy(value) else value


def _is_lazy(value: Any) -> bool:
    """Whether reading the items of the value may run code of the caller."""
    if not isinstance(value, Iterable) or isinstance(value, AsyncIterable):
        return False
    return not isinstance(value, str | bytes | list | tuple | AbstractSet | Mapping)


async def _from_caller(
    items: Iterable[Entry], steps: SimpleQueue[Step | None]
) -> AsyncGenerator[Entry]:
    """Yield the items, which the caller's thread reads."""
    loop = asyncio.get_running_loop()
    iterator: Iterator[Entry] | None = None

    def read(answer: asyncio.Future[list[Entry]]) -> None:
        nonlocal iterator
        try:
            iterator = iter(items) if iterator is None else iterator
            batch = list(islice(iterator, _ITEMS_PER_STEP))
        except Exception as error:  # noqa: BLE001  the operation raises it
            settle = partial(_settle, answer, answer.set_exception, error)
        else:
            settle = partial(_settle, answer, answer.set_result, batch)
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle)

    while True:
        answer: asyncio.Future[list[Entry]] = loop.create_future()
        steps.put(partial(read, answer))
        batch = await answer
        if not batch:
            return
        for item in batch:
            yield item


def _settle(answer: asyncio.Future[Any], settle: Callable[[Any], None], value: object) -> None:
    if not answer.done():  # the operation may be cancelled
        settle(value)


async def _pull(
    entries: AsyncIterator[Entry], size: int, _stores: Stores
) -> tuple[list[Entry], Exception | None, bool]:
    """Return the next entries, an error that comes after them, and whether there are no more."""
    batch: list[Entry] = []
    try:
        async for entry in entries:
            batch.append(entry)
            if len(batch) == size:
                return batch, None, False
    except Exception as error:  # noqa: BLE001  the iterator raises it behind the entries
        return batch, error, True
    return batch, None, True


async def _close(entries: AsyncIterator[Any]) -> None:
    if isinstance(entries, AsyncGenerator):
        await entries.aclose()
