"""The duties of process 1, which a container gives to the program that it starts."""

from __future__ import annotations

import os
import signal
from typing import Final

_PASSED_ON: Final = frozenset(
    {
        *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT),
        *(signal.SIGUSR1, signal.SIGUSR2),
    }
)
_KILLED: Final = 128  # as shells tell of a signal


def serve_as_init() -> None:
    """As process 1, go on in a child, and stay behind for what only process 1 can do: bury the
    processes that handlers have left, and pass signals on. Any other process goes on as it is.

    To be called before there are threads.
    """
    if os.getpid() != 1:
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would never come
    awaited = {*_PASSED_ON, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    worker = os.fork()
    if worker == 0:
        # A terminal's Ctrl-C comes to one of the two; it is passed on, and is one signal.
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    while True:
        number = signal.sigwait(awaited)
        if number != signal.SIGCHLD:
            os.kill(worker, number)
        elif (code := _buried(worker)) is not None:
            os._exit(code)


def _buried(worker: int) -> int | None:
    """Bury all that have ended; return the exit code once the worker is among them."""
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if ended == worker:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else _KILLED - code
        if ended == 0:
            return None
