"""The engine that sends writes together, over one that records its calls."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import anyio
import pytest

from streamer_store.group_commit import GroupCommitEngine
from unit.store.batching import RecordingEngine


@pytest.fixture
def inner() -> RecordingEngine:
    return RecordingEngine()


@pytest.fixture
async def engine(inner: RecordingEngine, rng: random.Random) -> AsyncIterator[GroupCommitEngine]:
    async with anyio.create_task_group() as tasks:
        yield GroupCommitEngine(inner, tasks=tasks, rng=rng)
        tasks.cancel_scope.cancel()
