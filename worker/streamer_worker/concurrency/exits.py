"""How the process of a worker ends: always, and with the code that was meant."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn

_FLUSHES_WITHIN: Final = 1.0
_REPORTS_WITHIN: Final = 2.0
_STDERR: Final = 2


class Exit:
    """Ends the process. Neither a broken stdout, nor a thread that a handler left behind, nor an
    exit hook of a plugin can prevent it or change the code. Any thread may call the methods.

    `hooks_within` is how long exit hooks (atexit) may take, in seconds.
    """

    def __init__(self, *, hooks_within: float) -> None:
        self._hooks_within = hooks_within
        self._leaving = threading.Lock()

    def at_once(self, code: int) -> NoReturn:
        """End without exit hooks, as after a crash. What handlers printed is flushed."""
        try:
            run_within(_FLUSHES_WITHIN, _flush)
        finally:
            os._exit(code)

    def after_hooks(self, code: int) -> NoReturn:
        """Run the exit hooks in this thread, and end. If another thread is doing so, wait for it.

        The interpreter is not finalized: that would wait for the threads of handlers, and exits
        with 120 if stdout cannot be flushed.
        """
        try:
            self._leaving.acquire()
            limited = _call_later(self._hooks_within, lambda: self.at_once(code))
            if limited:
                # What the interpreter calls at its own end, in the same order.
                _quietly(atexit._run_exitfuncs)  # noqa: SLF001  there is no public name
        finally:
            self.at_once(code)

    def after_hooks_in(
        self, seconds: float, code: int, *, report: Callable[[], object] = int
    ) -> None:
        """If the process is still there in so many seconds, call `report` and `after_hooks` in
        another thread.
        """

        def end() -> None:
            run_within(_REPORTS_WITHIN, report)
            self.after_hooks(code)

        _call_later(seconds, end)


def run_within(seconds: float, function: Callable[[], object]) -> None:
    """Call a function that may block; return when it does, and after so many seconds anyway."""
    try:
        thread = threading.Thread(target=_quietly, args=(function,), daemon=True)
        thread.start()
        thread.join(seconds)
    except RuntimeError:  # no more threads can be started
        return


def open_standard_descriptors() -> None:
    """Open /dev/null as each of stdin, stdout and stderr that is closed.

    Otherwise the next socket gets that number, and everything that is printed.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(descriptor, True)  # noqa: FBT003
    os.close(descriptor)


def _call_later(seconds: float, function: Callable[[], object]) -> bool:
    """Return whether the function will be called: not if no more threads can be started."""
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    try:
        timer.start()
    except RuntimeError:
        return False
    return True


def _quietly(function: Callable[[], object]) -> None:
    with suppress(BaseException):
        function()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with suppress(BaseException):
            if stream is not None:
                stream.flush()
