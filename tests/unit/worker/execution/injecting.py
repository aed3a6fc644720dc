"""A program that raises exceptions in threads of handlers, late and at any moment.

A test runs it in a process of its own, without coverage. An exception that is raised while a tracer
holds its lock leaves the lock held for ever.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from functools import partial
from typing import Any

import anyio

from streamer_worker.execution.threads import HandlerThreads


class Late(Exception):
    """Raised in one thread by another."""


def inject(ident: int) -> None:
    """Raise Late in that thread, as libraries do that limit the time of a call."""
    set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
    assert set_exception(ctypes.c_ulong(ident), ctypes.py_object(Late)) == 1


async def run(pool: HandlerThreads, function: Any) -> Any:
    with anyio.fail_after(20):
        return await anyio.to_thread.run_sync(pool.run, function)


async def after_the_end(pool: HandlerThreads) -> None:
    """An exception after the end of a call hits no call, and no thread ends."""
    for _ in range(200):
        inject(await run(pool, threading.get_ident))
        assert await run(pool, lambda: "whole") == "whole"
        assert await run(pool, lambda: "whole") == "whole"
    assert len({await run(pool, threading.get_ident) for _ in range(4)}) == 2


async def at_any_moment(pool: HandlerThreads) -> None:
    """Each call ends, with its own result or with the exception."""
    idents: list[int] = []
    stop = threading.Event()

    def injects() -> None:
        while not stop.wait(0.0002):
            for ident in idents[-2:]:
                inject(ident)

    def call(number: int) -> int:
        idents.append(threading.get_ident())
        return number

    injector = threading.Thread(target=injects)
    injector.start()
    own = 0
    try:
        for number in range(500):
            try:
                assert await run(pool, partial(call, number)) == number
                own += 1
            except (Late, RuntimeError):
                continue
    finally:
        stop.set()
        injector.join()
    assert own


if __name__ == "__main__":
    anyio.run({"end": after_the_end, "moment": at_any_moment}[sys.argv[1]], HandlerThreads(1))
    sys.stdout.write("no call was lost\n")
