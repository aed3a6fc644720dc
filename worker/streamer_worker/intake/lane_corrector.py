"""Corrects the entries of DueIndex that stand in a wrong place."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from typing import Final

import anyio
from cachetools import LRUCache

from streamer_store import Candidate, RequestQueue, StoreError

_MAX_REMEMBERED: Final = 10_000
_CONCURRENT: Final = 25
_Key = tuple[str, str, str, str]


class LaneCorrector:
    """Corrects each entry once, and remembers it: DueIndex shows it for a while as it was.

    Older releases and the Go store leave such entries. At most 10,000 are remembered.
    """

    def __init__(self, *, requests: RequestQueue) -> None:
        self._requests = requests
        self._corrected: LRUCache[_Key, None] = LRUCache(_MAX_REMEMBERED)

    async def correct(self, entries: Iterable[Candidate], *, at_most: int = _CONCURRENT) -> int:
        """Correct up to `at_most` of the entries, and return how many had a wrong place.

        An entry whose correction meets an error is tried again when it is met again.
        """
        corrected = 0
        limiter = anyio.CapacityLimiter(_CONCURRENT)

        async def correct(entry: Candidate) -> None:
            nonlocal corrected
            async with limiter:
                with suppress(StoreError):
                    changed = await self._requests.correct_lane(entry.request_id)
                    corrected += changed
                    self._corrected[_key(entry)] = None

        new = (entry for entry in entries if _key(entry) not in self._corrected)
        async with anyio.create_task_group() as tasks:
            for entry in islice(new, at_most):
                tasks.start_soon(correct, entry)
        return corrected


def _key(entry: Candidate) -> _Key:
    """Return what identifies the state of a request. Go changes a request and keeps its Version."""
    version = repr(entry.seen_version)
    return entry.request_id, version, entry.status.value, repr(entry.retry_after)
