"""The contract of the pauses."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from streamer_store.pause import Pause


class Pauses(Protocol):
    """Stores what is paused: all requests, or those of an action or a tenant, or a schedule.

    Pauses of different kinds stand beside each other: an operator's pause of an action, and one
    that a handler or a fuse made. The action is paused as long as there is one of them. Each
    write changes one pause, under the value that was read before it. All reads are consistent.
    There are 100 pauses at most (`pause.MAX_PAUSES`).
    """

    async def read_all(self) -> list[Pause]:
        """Return all pauses, also those that are over and still stored, in order of their keys.

        What cannot be decoded is reported.
        """
        ...

    async def start(self, pause: Pause) -> Pause | None:
        """Write a pause. Replaces one of the same kind and name, and returns that one.

        Raises ValidationError if there are 100 others, and ConcurrentModification if others
        change the same pause all the time.
        """
        ...

    async def extend(self, pause: Pause) -> bool:
        """Write a pause, unless one of the same kind and name ends at the same time or later.

        Returns whether it was written. Raises as `start`.
        """
        ...

    async def end(self, pause: Pause) -> bool:
        """Delete a pause that was read, if it has not changed since.

        Returns whether there is no such pause now. False: somebody has replaced it.
        """
        ...

    async def move_probe(self, pause: Pause, probe_at: datetime, *, by: str) -> Pause | None:
        """Move the time of the next probe of a fuse's pause that was read.

        Of several workers that try the same, one succeeds. `by`: the worker's id. Returns the new
        pause, or None if the pause has changed or ended since it was read.
        """
        ...
