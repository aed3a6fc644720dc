"""How many claims fail because another worker was faster, on DynamoDB Local."""

from __future__ import annotations

import random
import threading
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import anyio
import pytest

from integration.fast import slowness
from streamer_store import AsyncRequest, Stores, SystemClock, open_stores
from streamer_worker import Context, handler
from streamer_worker.changes import Changes
from streamer_worker.events import ClaimTried, Event, FleetObserved, RequestFinished
from streamer_worker.handlers.registry import registry
from streamer_worker.push.push_thread import push_off
from streamer_worker.settings import HttpSettings, PollSettings, ReaperSettings, Settings
from streamer_worker.wiring import build_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.anyio, pytest.mark.local]

WORKERS: Final = 16
SLOTS: Final = 4
BACKLOG: Final = 2000
PER_SECOND: Final = 20
TRICKLE: Final = 200
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

    def clear(self) -> None:
        self.claims.clear()
        self.finished.clear()

    def __str__(self) -> str:
        return f"{dict(self.claims)}, {100 * self.failed_share:.2f} % of the claims failed"


class SeesAll:
    """A listener that waits until a worker sees the whole fleet."""

    def __init__(self) -> None:
        self._seen = threading.Event()

    def __call__(self, event: Event) -> None:
        if isinstance(event, FleetObserved) and event.live == WORKERS:
            self._seen.set()

    async def wait(self) -> None:
        assert await anyio.to_thread.run_sync(self._seen.wait, PATIENCE)


@asynccontextmanager
async def fleet(url: str, prefix: str, tally: Tally) -> AsyncIterator[None]:
    """Run the workers, each with its own client, once each sees all others."""
    settings = Settings(
        concurrency=SLOTS,
        # On a slow machine the home of a request may need longer than that for its poll.
        poll=PollSettings(steal_delay=PollSettings().steal_delay * slowness()),
        reaper=ReaperSettings(enabled=False),
        http=HttpSettings(enabled=False),
    )
    clock = SystemClock()
    async with AsyncExitStack() as clients, anyio.create_task_group() as tasks:
        apps, views = [], [SeesAll() for _ in range(WORKERS)]
        for number, sees_all in enumerate(views):
            rng = random.Random(number)
            opened = open_stores(endpoint_url=url, prefix=prefix, rng=rng)
            stores = await clients.enter_async_context(opened)
            apps.append(
                build_app(
                    stores,
                    settings=settings,
                    registry=registry([work]),
                    push=push_off,
                    listeners=[tally, sees_all],
                    clock=clock,
                    rng=rng,
                )
            )
        for app in apps:
            await tasks.start(app.run)
        for sees_all in views:
            await sees_all.wait()
        yield
        for app in apps:
            app.stop()


async def test_few_claims_collide(real: tuple[Stores, dict[str, str]]) -> None:
    """At most 2 % of the claims fail on a trickle of requests, and at most 10 % on a backlog.

    On a trickle all workers are idle and see each request. On a backlog, which is several times
    what they can run at once, each worker takes its own requests first: at most 2 % fail. The
    others fail at its end, when fewer requests wait than there are slots.
    """
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

        tally.clear()
        await stores.requests.enqueue_many(AsyncRequest(action="work") for _ in range(BACKLOG))
        await tally.wait_finished(BACKLOG - 4 * WORKERS * SLOTS)
        print(f"{WORKERS} workers, backlog of {BACKLOG} until its end: {tally}")  # noqa: T201
        assert tally.failed_share <= 0.02
        await tally.wait_finished(BACKLOG)
        print(f"{WORKERS} workers, backlog of {BACKLOG}: {tally}")  # noqa: T201
        assert tally.finished == {"completed": BACKLOG}
        assert tally.failed_share <= 0.10
