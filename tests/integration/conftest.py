from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from conftest import fresh_stores
from streamer_store.engine import Engine
from streamer_store.memory import MemoryEngine
from support import ManualClock


@pytest.fixture(params=["memory", pytest.param("local", marks=pytest.mark.local)])
async def inner(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    """Give an engine to build stores over; where writes must be believed, no moto."""
    if request.param == "memory":
        yield MemoryEngine()
        return
    async with fresh_stores(
        request.getfixturevalue("local_url"),
        clock=ManualClock(),
        rng=random.Random(7),
        undecodable=[],
    ) as opened:
        yield opened.engine
