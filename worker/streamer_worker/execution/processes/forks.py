"""Forked children of this process: where they end, and what they do not share with it.

A handler may call `os.fork()`, or use multiprocessing, in a task, a thread or a process. The
child is a copy of the worker: it has the worker's event loop, connections and signal handlers.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import signal
import threading
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

_FAILED: Final = 1
# A program that blocks these has undefined behaviour (POSIX, sigprocmask).
_NEVER_BLOCKED: Final = frozenset(
    {
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGKILL,
        signal.SIGSEGV,
        signal.SIGSTOP,
    }
)


class ForkedHere(RuntimeError):
    """A forked child used what belongs to the process that it was copied from."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} works only in the process of the handler, not in a forked child")


class ForkBoundary:
    """Ends a forked child that leaves the block, in which it began, by return or exception.

    The child runs no clean-up and flushes nothing: its buffers are copies of its parent's. Its
    exit code is what Python's would be: 0, 1 for an exception, that of `sys.exit()`.
    """

    def __enter__(self) -> Self:
        self._pid = os.getpid()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if os.getpid() != self._pid:
            os._exit(exit_code(error))


def exit_code(error: BaseException | None) -> int:
    """Return the code with which Python ends a program that raised this."""
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        return _FAILED
    match error.code:
        case None:
            return 0
        case int() as code:
            return code & 0xFF
    return _FAILED


def reset_signals_in_forked_children() -> None:
    """Give each forked child the signal handlers that this process has now, and no wakeup
    descriptor: a signal to the child is not reported to its parent's event loop.

    Call it once, in the main thread, before any handler is set. Signals are blocked while a
    fork is under way, so that none reaches the child before it is reset.
    """
    initial = {number: signal.getsignal(number) for number in signal.valid_signals()}
    blocked = frozenset(initial) - _NEVER_BLOCKED
    masks = threading.local()

    def block() -> None:
        masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)

    def unblock() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.before)

    def reset() -> None:
        signal.set_wakeup_fd(-1)
        for number, action in initial.items():
            # None: set by an extension in C, and not ours to change.
            if action is not None and signal.getsignal(number) not in {action, None}:
                signal.signal(number, action)
        unblock()

    os.register_at_fork(before=block, after_in_parent=unblock, after_in_child=reset)


def detach_forked_children(loop: asyncio.AbstractEventLoop) -> None:
    """Let forked children of this process end when they come back to `loop`, which is asyncio's.

    They share its selector and its connections: a child that ran the loop would read the
    answers that its parent waits for. So in a child the loop's descriptors lead nowhere, and
    its next step, also one that another thread asks for, ends the child with code 1.
    """
    os.register_at_fork(after_in_child=partial(_detach, weakref.ref(loop)))


def _detach(reference: Callable[[], asyncio.AbstractEventLoop | None]) -> None:
    loop: Any = reference()
    if loop is None or loop.is_closed():
        return
    # There is no public way to what a loop shares. A loop of another kind has other names.
    selector: selectors.BaseSelector | None = getattr(loop, "_selector", None)
    if selector is None:
        return
    _lead_nowhere(selector)
    loop._selector = _Ended()  # noqa: SLF001
    # The rest of this turn's steps would come before the selector.
    loop._ready.appendleft(asyncio.Handle(_end, (), loop))  # noqa: SLF001
    loop.call_soon_threadsafe = partial(_end_unless_collecting, loop)


def _lead_nowhere(selector: selectors.BaseSelector) -> None:
    """Replace the selector's descriptors by /dev/null, their numbers kept: objects of this
    process may still close them.
    """
    shared = [key.fd for key in (selector.get_map() or {}).values()]
    if hasattr(selector, "fileno"):
        shared.append(selector.fileno())
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        for descriptor in shared:
            os.dup2(nothing, descriptor, inheritable=False)
    finally:
        os.close(nothing)


def _end() -> None:
    os._exit(_FAILED)


def _end_unless_collecting(loop: Any, callback: Any, *_: Any, **__: Any) -> None:
    # asyncio closes an async generator that is collected in this way: no step was asked for.
    if callback != loop.create_task:
        _end()


class _Ended(selectors.BaseSelector):
    """A selector that ends its process when it is asked what is ready."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, -1, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, -1, 0, None)

    def select(self, _timeout: float | None = None) -> Any:
        _end()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}
