"""Handles the signals that stop a worker."""

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
    """Calls `stop` in the event loop at SIGTERM, SIGINT and SIGHUP.

    SIGHUP stays ignored if it was ignored before, as nohup(1) does. Main thread only.
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
        """Install the handlers, and unblock the signals: plugins and supervisors may block them."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._numbers)
        for number in self._numbers:
            signal.signal(number, self._handle)

    def restore(self) -> list[str]:
        """Install the handlers again. Return the names of the signals whose handler was replaced.

        At no time does a signal have its default effect, which ends the process.
        """
        replaced = [number for number in self._numbers if signal.getsignal(number) != self._handle]
        for number in replaced:
            # asyncio calls its own handler at each signal, whichever handler is installed.
            self._loop.add_signal_handler(number, _ignore)
        self.install()  # all: an extension may have replaced one below Python
        return [number.name for number in replaced]

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            # A fork of this process, made by a handler: the signal has its default effect.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        with suppress(RuntimeError):  # the loop is closed, because the process ends
            self._loop.call_soon_threadsafe(self._stop)


def _ignore() -> None:
    """Do nothing."""
