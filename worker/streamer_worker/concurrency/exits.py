"""Ends the process in any case, with the intended exit code."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn

# Limits in seconds.
_FLUSHES_WITHIN: Final = 1.0
_REPORTS_WITHIN: Final = 2.0
_STDERR: Final = 2


class Exit:
    """Ends the process. Any thread may call the methods.

    None of these can prevent the end or change the exit code: a broken stdout, a thread that a
    handler has started, an exit hook of a plugin.

    hooks_within: seconds that exit hooks (atexit) may take.
    """

    def __init__(self, *, hooks_within: float) -> None:
        self._hooks_within = hooks_within
        # Acquired by the thread that runs the exit hooks, and never released.
        self._leaving = threading.Lock()

    def at_once(self, code: int) -> NoReturn:
        """End the process without exit hooks, as after a crash. Flush stdout and stderr before."""
        try:
            run_within(_FLUSHES_WITHIN, _flush)
        finally:
            os._exit(code)

    def after_hooks(self, code: int) -> NoReturn:
        """Run the exit hooks in this thread, then end the process. If another thread already does
        so, wait for it.

        The interpreter is not finalized: that would wait for the threads of handlers, and exit
        with 120 if stdout cannot be flushed.
        """
        try:
            self._leaving.acquire()
            has_limit = _call_later(self._hooks_within, lambda: self.at_once(code))
            if has_limit:
                # The interpreter calls the same function at its end.
                _quietly(atexit._run_exitfuncs)  # noqa: SLF001  there is no public name
        finally:
            self.at_once(code)

    def after_hooks_in(
        self, seconds: float, code: int, *, report: Callable[[], object] = int
    ) -> None:
        """Start a timer that calls `report` and then `after_hooks`, in a thread of its own.

        seconds: time until then.
        report: has two seconds. Its result and its errors are ignored.
        """

        def end() -> None:
            run_within(_REPORTS_WITHIN, report)
            self.after_hooks(code)

        _call_later(seconds, end)


def run_within(seconds: float, function: Callable[[], object]) -> None:
    """Call a function in a thread, and return when it returns, or after `seconds`. Ignores its
    errors.
    """
    try:
        thread = threading.Thread(target=_quietly, args=(function,), daemon=True)
        thread.start()
        thread.join(seconds)
    except RuntimeError:  # no more threads can be started
        return


def open_standard_descriptors() -> None:
    """Open /dev/null in place of stdin, stdout and stderr, where they are closed.

    Otherwise the next socket would get that number, and receive all that is printed.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(descriptor, True)  # noqa: FBT003
    os.close(descriptor)


def _call_later(seconds: float, function: Callable[[], object]) -> bool:
    """Call a function after `seconds`, in a thread. Return False if no thread can be started."""
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
