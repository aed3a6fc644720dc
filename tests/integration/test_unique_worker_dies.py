"""A unique key whose worker is killed: nothing holds it but the request itself."""

from __future__ import annotations

import signal
from collections.abc import Callable
from datetime import timedelta

import pytest

from integration.fast import ended
from integration.test_fleet import _running, start
from processes import Process
from streamer_store import AsyncRequest, Enqueued, RequestStatus, Stores

__all__ = ["start"]
pytestmark = [pytest.mark.anyio, pytest.mark.local]


async def test_a_key_outlives_its_worker(
    real: tuple[Stores, dict[str, str]], start: Callable[..., Process]
) -> None:
    """The key stays taken while the worker is dead, while the request is rescued, and in the
    window. The request runs to its end, and no second one is stored.

    Proves UNIQUE-1.
    """
    stores, _ = real

    async def enqueue() -> AsyncRequest:
        request = AsyncRequest(action="first_hangs", max_retries=50)
        return await stores.requests.enqueue(request, unique_key="k", unique_for=timedelta(hours=1))

    first = await enqueue()
    victim = start()
    lost = (await _running(stores, first.request_id, saved=True)).worker_id
    victim.signal(signal.SIGKILL)
    dead = await enqueue()
    assert (dead.enqueued, dead.worker_id) == (Enqueued.EXISTS, lost)
    other = start()
    other.event("request_rescued", request_id=first.request_id, worker_id=lost)
    rescued = await enqueue()
    assert (rescued.enqueued, rescued.unique_run) == (Enqueued.EXISTS, first.unique_run)
    (done,) = await ended(stores, first.request_id)
    assert (done.status, done.rescues) == (RequestStatus.COMPLETED, 1)
    kept = await enqueue()
    assert (kept.enqueued, kept.result) == (Enqueued.EXISTS, {"attempt": 1})
