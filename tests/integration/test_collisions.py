"""How many claims fail because another worker was faster, on DynamoDB Local."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import anyio
import pytest

from streamer_store import AsyncRequest, Stores, SystemClock, open_stores
from streamer_worker import Context, handler
from streamer_worker.changes import Changes
from streamer_worker.events import ClaimTried, Event, RequestFinished
from streamer_worker.handlers.registry import registry
from streamer_worker.push.push_thread import push_off
from streamer_worker.settings import HttpSettings, ReaperSettings, Settings
from streamer_worker.wiring import build_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.anyio, pytest.mark.local]

WORKERS: Final = 16
BACKLOG: Final = 2000
PER_SECOND: Final = 20
TRICKLE: Final = 300
PATIENCE: Final = 120.0


@handler("work")
async def work(_payload: dict[str, Any], _ctx: Context) -> None:
    await anyio.sleep(0.05)


class Tally:
    """A listener that counts ended claims and ended requests."""

    def __init__(self) -> None:
        self.claims: Counter[str] = Counter()
        self.finished: Counter[str] = Counter()
        self._changes = Changes()

    def __call__(self, event: Event) -> None:
        match event:
            case ClaimTried(outcome=outcome):
                self.claims[outcome] += 1
            case RequestFinished(outcome=outcome):
                self.finished[outcome] += 1
                self._changes.notify()

    @property
    def failed_share(self) -> float:
        return 1 - self.claims["won"] / self.claims.total()

    async def wait_finished(self, count: int) -> None:
        with anyio.fail_after(PATIENCE):
            while self.finished.total() < count:
                await self._changes.wait()

    def __str__(self) -> str:
        return f"{dict(self.claims)}, {100 * self.failed_share:.2f} % of the claims failed"


@asynccontextmanager
async def fleet(url: str, prefix: str, tally: Tally) -> AsyncIterator[None]:
    """Run the workers, each with its own client, once each sees all others."""
    settings = Settings(
        concurrency=8,
        reaper=ReaperSettings(enabled=False),
        http=HttpSettings(enabled=False),
    )
    clock = SystemClock()
    async with AsyncExitStack() as clients, anyio.create_task_group() as tasks:
        apps = []
        for number in range(WORKERS):
            rng = random.Random(number)
            opened = open_stores(endpoint_url=url, prefix=prefix, rng=rng)
            stores = await clients.enter_async_context(opened)
            apps.append(
                build_app(
                    stores,
                    settings=settings,
                    registry=registry([work]),
                    push=push_off,
                    listeners=[tally],
                    clock=clock,
                    rng=rng,
                )
            )
        for app in apps:
            await tasks.start(app.run)
        # Two heartbeats: then each has looked after the last one came.
        await anyio.sleep(2 * settings.presence.heartbeat)
        yield
        for app in apps:
            app.stop()


async def test_a_backlog_is_shared_without_collisions(
    real: tuple[Stores, dict[str, str]],
) -> None:
    """Each worker takes its own requests first: at most a tenth of the claims may fail."""
    stores, settings = real
    tally = Tally()
    async with fleet(settings["STREAMER_ENDPOINT_URL"], settings["STREAMER_TABLE_PREFIX"], tally):
        await stores.requests.enqueue_many(AsyncRequest(action="work") for _ in range(BACKLOG))
        await tally.wait_finished(BACKLOG)
    print(f"{WORKERS} workers, backlog of {BACKLOG}: {tally}")  # noqa: T201
    assert tally.finished == {"completed": BACKLOG}
    assert tally.failed_share <= 0.10


async def test_a_trickle_has_few_collisions(real: tuple[Stores, dict[str, str]]) -> None:
    """All workers are idle and see each request: at most 2 % of the claims may fail."""
    stores, settings = real
    tally = Tally()
    async with fleet(settings["STREAMER_ENDPOINT_URL"], settings["STREAMER_TABLE_PREFIX"], tally):
        for _ in range(TRICKLE):
            await stores.requests.enqueue(AsyncRequest(action="work"))
            await anyio.sleep(1 / PER_SECOND)
        await tally.wait_finished(TRICKLE)
    print(f"{WORKERS} idle workers, {PER_SECOND} requests a second: {tally}")  # noqa: T201
    assert tally.finished == {"completed": TRICKLE}
    assert tally.failed_share <= 0.02
