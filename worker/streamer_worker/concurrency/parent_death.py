"""Child processes that cannot outlive their parent."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # of <linux/prctl.h>


def die_with(parent: int) -> None:
    """Let the kernel kill this process when its parent, of this id, ends for any reason.

    Called in a forked child. Only Linux can do it. Elsewhere this does nothing.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is None:
        return
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the call
        os._exit(1)
