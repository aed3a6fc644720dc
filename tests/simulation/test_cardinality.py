"""The number of Prometheus series does not grow with the values that producers send."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import anyio
from trio.testing import MockClock

from streamer_store import AsyncRequest, RequestQueue, RequestStatus
from streamer_worker import Context, Reject, handler
from streamer_worker.events import RequestFinished
from streamer_worker.monitoring.metric_families import PREFIX
from streamer_worker.settings import PollSettings
from unit.worker.harness import make_world, running

TOTAL = 10_000
CHUNK = 500
WARM_UP = 1000
_OPEN = (RequestStatus.PENDING, RequestStatus.PROCESSING)


@handler("even")
async def even(_payload: dict[str, Any], ctx: Context) -> None:
    await ctx.progress(0.5, f"for {ctx.tenant_id}", details={"id": ctx.request_id})


@handler("odd")
async def odd(payload: dict[str, Any], _ctx: Context) -> None:
    raise Reject(f"no {payload['n']}", code=f"CODE_{payload['n']}")


async def _wait_until_all_ended(requests: RequestQueue) -> None:
    while True:
        depths = [await requests.depth(status, limit=1) for status in _OPEN]
        if not any(depth.count for depth in depths):
            return
        await anyio.sleep(1)


def _series(app: Any) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    return {
        (sample.name, frozenset(sample.labels.items()))
        for family in app._metrics.registry.collect()
        for sample in family.samples
        if sample.name.startswith(PREFIX)
    }


def test_ten_thousand_random_requests_add_no_series() -> None:
    """Actions, tenants, users, connections, ids and codes are random. All series exist after the
    first thousand requests.
    """
    clock = MockClock(autojump_threshold=0)
    anyio.run(_send_all, backend="trio", backend_options={"clock": clock})


async def _send_all() -> None:
    world = make_world()
    rng = random.Random(11)
    requests = world.stores.requests
    app = world.app([even, odd], poll=PollSettings(unknown_action_timeout=0.1), concurrency=100)
    after_warm_up: set[Any] = set()
    async with running(app):
        for sent in range(0, TOTAL, CHUNK):
            stored = (
                await requests.enqueue_many(
                    AsyncRequest(
                        action=rng.choice(["even", "odd", f"made-up-{rng.getrandbits(32):x}"]),
                        payload={"n": sent + n},
                        request_id=f"id-{rng.getrandbits(64):x}",
                        tenant_id=f"tenant-{rng.getrandbits(32):x}",
                        user_id=f"user-{rng.getrandbits(32):x}",
                        connection_id=f"connection-{rng.getrandbits(32):x}",
                    )
                    for n in range(CHUNK)
                )
            ).records
            with anyio.fail_after(600):
                await _wait_until_all_ended(requests)
            for request in stored:
                await requests.delete(request.request_id)
            if sent + CHUNK == WARM_UP:
                after_warm_up = _series(app)
        await anyio.sleep(5)
        at_the_end = _series(app)
    ended = Counter(event.outcome for event in world.recorder.of(RequestFinished))
    assert sum(ended.values()) == TOTAL
    assert set(ended) == {"completed", "failed"}
    assert at_the_end == after_warm_up
    label_values = " ".join(value for _, labels in after_warm_up for _, value in labels)
    for name in ("made-up", "tenant-", "user-", "connection-", "id-", "CODE_"):
        assert name not in label_values
