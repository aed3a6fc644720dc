"""Exports or imports, and kills itself at a given step.

Run as `python transfer_child.py export|import URL PREFIX TARGET STEP`. The steps of an export are
its operations on the files of the target, and those of an import its calls to DynamoDB. STEP 0 does
not kill. The number of steps is printed at the end.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import anyio

from streamer_store import CallEnded, export_tables, import_tables, open_stores

PART_BYTES = 4_000
_FILE_EVENTS = frozenset({"open", "os.rename", "os.remove", "os.mkdir"})


class Steps:
    """Counts steps, and kills the process at the last one."""

    def __init__(self, last: int) -> None:
        self._last = last
        self.taken = 0

    def take(self) -> None:
        self.taken += 1
        if self.taken == self._last:
            os.kill(os.getpid(), signal.SIGKILL)


async def main(action: str, url: str, prefix: str, target: str, last: int) -> None:
    steps = Steps(last)

    def observe(ended: object) -> None:
        if action == "import" and isinstance(ended, CallEnded):
            steps.take()

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _FILE_EVENTS and str(arguments[0]).startswith(target):
            steps.take()

    async with open_stores(endpoint_url=url, prefix=prefix, observe=observe) as stores:
        if action == "export":
            sys.addaudithook(audit)
            await export_tables(stores, target, part_bytes=PART_BYTES)
        else:
            await import_tables(stores, target)
    sys.stdout.write(f"{steps.taken}\n")


if __name__ == "__main__":
    action, url, prefix, target, step = sys.argv[1:]
    anyio.run(main, action, url, prefix, target, int(step))
