"""Every run draws new examples. A failing example prints the blob that repeats it."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, settings

from conftest import fresh_stores
from streamer_store.engine import Engine
from support import ManualClock

settings.register_profile(
    "streamer",
    deadline=None,
    max_examples=200,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("streamer")


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    """Start one event loop, in a thread, for all examples: a client belongs to its event loop."""
    with start_blocking_portal("asyncio") as opened:
        yield opened


@pytest.fixture(scope="session")
def local_engine(portal: BlockingPortal, local_url: str) -> Iterator[Engine]:
    """Open DynamoDB Local. All examples share its tables, so each needs its own keys."""
    opening = fresh_stores(local_url, clock=ManualClock(), rng=random.Random(7), undecodable=[])
    with portal.wrap_async_context_manager(opening) as stores:
        yield stores.engine
