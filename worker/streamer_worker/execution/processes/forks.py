"""Ends forked children of this process, and detaches them from its event loop and signals.

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
    """A forked child used a context, which works only in the process that it was forked from."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} works only in the process of the handler, not in a forked child")


class ForkBoundary:
    """A context that ends a process forked inside it when that process leaves the block.

    The child runs no clean-up and flushes nothing, since its buffers are copies of its parent's.
    Its exit code is the one that Python would use: 0 after a return, 1 after an exception, or
    that of `sys.exit()`.
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
    """Return the exit code of a Python program that raises this; 0 for None."""
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
    descriptor, so that a signal to the child does not reach its parent's event loop.

    Call it once, in the main thread, before any signal handler is set. Signals are blocked
    during a fork, so that none reaches the child before the reset.
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
            # None: set by an extension in C. Python cannot restore it.
            if action is not None and signal.getsignal(number) not in {action, None}:
                signal.signal(number, action)
        unblock()

    os.register_at_fork(before=block, after_in_parent=unblock, after_in_child=reset)


def detach_forked_children(loop: asyncio.AbstractEventLoop) -> None:
    """End a forked child of this process, with exit code 1, when it continues with `loop`.

    A child that ran asyncio's loop would read answers that its parent waits for, because both
    share the selector and the connections. So in a child the loop's descriptors are replaced by
    /dev/null, and the loop's next step ends the child. The same applies to a step that another
    thread schedules.
    """
    os.register_at_fork(after_in_child=partial(_detach, weakref.ref(loop)))


def _detach(reference: Callable[[], asyncio.AbstractEventLoop | None]) -> None:
    loop: Any = reference()
    if loop is None or loop.is_closed():
        return
    # asyncio has no public access to the selector. Loops of other libraries have no `_selector`.
    selector: selectors.BaseSelector | None = getattr(loop, "_selector", None)
    if selector is None:
        return
    _replace_by_null(selector)
    loop._selector = _EndingSelector()  # noqa: SLF001
    # Steps that are already scheduled would run before the selector is used.
    loop._ready.appendleft(asyncio.Handle(_end, (), loop))  # noqa: SLF001
    loop.call_soon_threadsafe = partial(_end_unless_collected, loop)


def _replace_by_null(selector: selectors.BaseSelector) -> None:
    """Replace the selector's descriptors by /dev/null. The numbers are the same, since objects
    of this process may still close them.
    """
    descriptors = [key.fd for key in (selector.get_map() or {}).values()]
    if hasattr(selector, "fileno"):
        descriptors.append(selector.fileno())
    null = os.open(os.devnull, os.O_RDWR)
    try:
        for descriptor in descriptors:
            os.dup2(null, descriptor, inheritable=False)
    finally:
        os.close(null)


def _end() -> None:
    os._exit(_FAILED)


def _end_unless_collected(loop: Any, callback: Any, *_: Any, **__: Any) -> None:
    # asyncio also calls this to close an async generator that was garbage-collected.
    if callback != loop.create_task:
        _end()


class _EndingSelector(selectors.BaseSelector):
    """A selector whose `select` ends the process."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, -1, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, -1, 0, None)

    def select(self, _timeout: float | None = None) -> Any:
        _end()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}
