"""The signals that ask a worker to stop."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Final

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopSignals:
    """Calls `stop` in the event loop at SIGTERM, SIGINT and SIGHUP. To be made in the main thread.

    SIGHUP is left alone if it was ignored before, as nohup(1) does.
    """

    def __init__(self, stop: Callable[[], None], *, loop: asyncio.AbstractEventLoop) -> None:
        self._stop = stop
        self._loop = loop
        self._process = os.getpid()
        self._numbers = [
            number
            for number in _SIGNALS
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
        ]

    def install(self) -> None:
        """Install the handlers, and unblock the signals: a supervisor or a plugin may have blocked
        them. Main thread only.
        """
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._numbers)
        for number in self._numbers:
            signal.signal(number, self._handle)

    def restore(self) -> list[str]:
        """Install the handlers that a plugin replaced or removed again; return the signals' names.

        There is no moment at which a signal has its default effect, to end the process.
        """
        replaced = [each for each in self._numbers if signal.getsignal(each) != self._handle]
        for number in replaced:
            # The loop calls a handler of its own at each signal, whoever handles that signal.
            self._loop.add_signal_handler(number, _ignore)
        self.install()  # all: an extension may have replaced one without Python's knowledge
        return [number.name for number in replaced]

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            # A copy of this process, made by a handler: it shall end as any process does.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        with suppress(RuntimeError):  # the loop is closed: the process ends already
            self._loop.call_soon_threadsafe(self._stop)


def _ignore() -> None:
    """Do nothing."""
