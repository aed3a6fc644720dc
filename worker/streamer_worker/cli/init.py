"""What process 1 of a container has to do: reap orphaned processes and forward signals."""

from __future__ import annotations

import os
import signal
from typing import Final

_FORWARDED: Final = frozenset(
    {
        *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT),
        *(signal.SIGUSR1, signal.SIGUSR2),
    }
)
_KILLED_BY: Final = 128  # shells exit with 128 + the signal number


def serve_as_init() -> None:
    """Return in a forked child if this is process 1, and return at once in any other process.

    Process 1 itself never returns. It forwards signals to the child, reaps the processes that
    handlers leave behind, and exits with the child's exit code. Call it before there are threads.
    """
    if os.getpid() != 1:
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # an ignored SIGCHLD is not delivered
    waited_for = {*_FORWARDED, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)
    worker = os.fork()
    if worker == 0:
        # In a group of its own, so that the child gets Ctrl-C once: from process 1.
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    while True:
        number = signal.sigwait(waited_for)
        if number != signal.SIGCHLD:
            os.kill(worker, number)
        elif (code := _reap_children(worker)) is not None:
            os._exit(code)


def _reap_children(worker: int) -> int | None:
    """Reap all processes that have ended; return the worker's exit code if it is one of them."""
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if ended == worker:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else _KILLED_BY - code
        if ended == 0:
            return None
