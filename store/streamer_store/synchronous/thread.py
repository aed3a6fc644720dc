"""Stores in an event loop on a thread of its own, which every other thread may call."""

from __future__ import annotations

import asyncio
import atexit

# The first call would import these two: asyncio for its executor, and Python for a host's name. A
# child that is forked at that moment would wait for ever for the lock of the import.
import concurrent.futures.thread  # noqa: F401
import encodings.idna  # noqa: F401
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Final, TypeVar

import anyio
from anyio.from_thread import BlockingPortal

from streamer_store.errors import StoreError, StoreUnavailable
from streamer_store.stores import Stores

Result = TypeVar("Result")
Step = Callable[[], object]
_THREAD_NAME: Final = "streamer-store"
_CLOSED: Final = "these stores are closed"
_CLOSED_MEANWHILE: Final = "the stores were closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    portal: BlockingPortal
    stores: Stores
    thread: threading.Thread


@dataclass(slots=True)
class _Process:
    """What one process has opened. A forked child has an object of its own, and its own lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    opened: _Opened | None = None


class StoresThread:
    """Opens stores in an event loop on a new thread, and calls them from any other thread.

    After a fork, the child has no such thread: its first call opens stores of its own. What the
    parent has opened is left alone there, because its sockets belong to the parent.
    """

    def __init__(self, opening: Callable[[], AbstractAsyncContextManager[Stores]]) -> None:
        """Open the stores. Raises what `opening` raises."""
        self._opening = opening
        self._is_closed = False
        self._processes: dict[int, _Process] = {}
        self._open()
        # Not needed to end the process, because the thread is a daemon. It closes the connections.
        atexit.register(self.close)

    def stores(self) -> Stores:
        """Return the stores of this process, for what needs no event loop."""
        return self._open().stores

    def call(self, work: Callable[[Stores], Awaitable[Result]]) -> Result:
        """Run `work` in the event loop, and return its result or raise its error.

        If the wait is interrupted, as by KeyboardInterrupt, the work is cancelled. Raises
        StoreError if the stores are closed, and in a thread that runs an event loop.
        """
        future = self._start(work)
        with _cancelled_unless_done(future):
            return future.result()

    def call_with_steps(
        self, work: Callable[[Stores, SimpleQueue[Step | None]], Awaitable[Result]]
    ) -> Result:
        """As `call`, and meanwhile run in this thread each step that `work` puts into the queue.

        An error of a step cancels the work, and is raised.
        """
        steps: SimpleQueue[Step | None] = SimpleQueue()
        future = self._start(lambda stores: work(stores, steps))
        future.add_done_callback(lambda _: steps.put(None))
        with _cancelled_unless_done(future):
            while (step := steps.get()) is not None:
                step()
            return future.result()

    def close(self) -> None:
        """Close the stores, and end the thread. Calls under way raise StoreUnavailable.

        May be called again. In a forked child it closes only what the child has opened. Raises
        StoreError in the thread of the event loop, as in an `observe`.
        """
        process = self._process()
        if process.opened is not None and process.opened.thread is threading.current_thread():
            raise StoreError("close() waits for the thread that called it", operation="close")
        self._is_closed = True
        atexit.unregister(self.close)
        with process.lock:
            opened, process.opened = process.opened, None
        if opened is not None:
            with suppress(RuntimeError):  # the portal has ended
                opened.portal.call(opened.portal.stop, True)  # noqa: FBT003  anyio's parameter
            opened.thread.join()

    def _start(self, work: Callable[[Stores], Awaitable[Result]]) -> Future[Result]:
        _require_no_event_loop()
        opened = self._open()
        try:
            return opened.portal.start_task_soon(work, opened.stores)
        except RuntimeError as error:  # closed since `_open`
            raise StoreError(_CLOSED, operation="open") from error

    def _open(self) -> _Opened:
        """Return what this process has opened. Open it first, once, if it has not."""
        process = self._process()
        opened = process.opened
        if opened is None:
            with process.lock:
                if self._is_closed:
                    raise StoreError(_CLOSED, operation="open")
                opened = process.opened
                if opened is None:
                    opened = process.opened = self._open_thread()
        return opened

    def _process(self) -> _Process:
        pid = os.getpid()
        return self._processes.get(pid) or self._processes.setdefault(pid, _Process())

    def _open_thread(self) -> _Opened:
        # Not anyio's start_blocking_portal: it is a generator. A forked child that exits closes
        # it, and waits for the thread that only the parent has.
        ready: Future[_Opened] = Future()
        thread = threading.Thread(
            target=lambda: anyio.run(self._run, ready, backend="asyncio"),
            name=_THREAD_NAME,
            daemon=True,
        )
        thread.start()
        with _cancelled_unless_done(ready):
            return ready.result()

    async def _run(self, ready: Future[_Opened]) -> None:
        """Open the stores, and keep them open until the portal is stopped."""
        try:
            async with self._opening() as stores, BlockingPortal() as portal:
                if ready.set_running_or_notify_cancel():  # nobody has interrupted the wait for it
                    thread = threading.current_thread()
                    ready.set_result(_Opened(portal=portal, stores=stores, thread=thread))
                    await portal.sleep_until_stopped()
        except BaseException as error:  # noqa: BLE001  it is raised where the stores are opened
            if not ready.done():
                ready.set_exception(error)


class _cancelled_unless_done:  # noqa: N801  a context manager is called as a function
    """Cancels the work of a future if the block ends before it.

    A class, because a generator would add frames to the traceback of each error.
    """

    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, CancelledError) and self._future.cancelled():
            raise StoreUnavailable(_CLOSED_MEANWHILE, operation="close") from error
        if error is not None:
            self._future.cancel()


def _require_no_event_loop() -> None:
    """Raise StoreError in a thread that runs an event loop, which the call would block."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise StoreError(
        "these stores are synchronous, and would block the event loop that runs in this thread:"
        " use `async with open_stores(...)` here, or call them from a worker thread",
        operation="open",
    )
