"""Tasks with the same key go one after another, in the order in which they began."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio


class InOrder:
    """Makes the blocks of one key run one after another. Those of other keys do not wait."""

    def __init__(self) -> None:
        self._last: dict[str, anyio.Event] = {}

    @asynccontextmanager
    async def of(self, key: str) -> AsyncGenerator[None]:
        """Wait until the blocks of this key that began before have ended."""
        before, ended = self._last.get(key), anyio.Event()
        self._last[key] = ended
        try:
            if before is not None:
                await before.wait()
            yield
        finally:
            ended.set()
            if self._last[key] is ended:
                del self._last[key]
