"""Limits, tenants and pages: no request is hidden for long, and retries start on time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import anyio
import pytest

from streamer_store import RequestStatus
from streamer_worker import Context, Handler, RetryLater, handler
from streamer_worker.events import RequestFinished, RequestStarted
from streamer_worker.settings import PollSettings
from unit.worker.benches import PollBench, enqueue
from unit.worker.harness import Waiting, World, echo, running, virtual_time

pytestmark = [pytest.mark.anyio, virtual_time]
PAGE = 4
SLOWLY = PollSettings(min_interval=0.05, max_interval=10.0)


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit the first page of a poll to four requests."""
    monkeypatch.setattr("streamer_worker.intake.poller._MIN_PAGE_SIZE", PAGE)
    monkeypatch.setattr("streamer_worker.intake.poller._PER_SLOT", 0)


class Watched:
    """Handlers that take a second, and count how many of an action or tenant ran at once."""

    def __init__(self) -> None:
        self.order: list[str | None] = []
        self.most: Counter[str | None] = Counter()
        self._now: Counter[str | None] = Counter()

    def handler(self, action: str = "work", **rules: Any) -> Handler:
        return handler(action, **rules)(self._run)

    async def _run(self, _payload: dict[str, Any], ctx: Context) -> None:
        self.order.append(ctx.tenant_id)
        with self._counted(ctx.action), self._counted(ctx.tenant_id):
            await anyio.sleep(1)

    @contextmanager
    def _counted(self, name: str | None) -> Iterator[None]:
        self._now[name] += 1
        self.most[name] = max(self.most[name], self._now[name])
        yield
        self._now[name] -= 1


async def claimed_within(bench: PollBench, request_id: str, *, polls: int) -> bool:
    """Return whether the request is claimed within this many polls. Claims keep their slots."""
    for _ in range(polls):
        await bench.poller.step()
        if request_id in bench.handed_over():
            return True
    return False


@pytest.mark.usefixtures("small_pages")
async def test_a_saturated_action_does_not_hide_other_requests(world: World) -> None:
    """The cursor moves on by a page at each poll, and starts again at the end."""
    bench = PollBench(world, handler("slow", max_concurrency=1)(echo.function), echo)
    head = await enqueue(world, 10 * PAGE, action="slow")
    assert await claimed_within(bench, head[0], polls=1)
    for _ in range(3):
        behind = await world.enqueue()
        assert await claimed_within(bench, behind.request_id, polls=12)
    assert bench.slots.of_action("slow") == 1
    bench.close()


@pytest.mark.usefixtures("small_pages")
async def test_a_saturated_action_delays_others_by_one_pause_at_most(world: World) -> None:
    """One poll of a worker finds requests behind it, even if it polls slowly while idle."""
    waiting = Waiting("slow")
    slow = handler("slow", max_concurrency=2)(waiting.handler.function)
    await enqueue(world, 20 * PAGE, action="slow")
    async with running(world.app([slow, echo], poll=SLOWLY)):
        await world.recorder.wait_for(RequestStarted, 2)
        await anyio.sleep(100)
        behind = await world.enqueue()
        began = anyio.current_time()
        (finished,) = await world.recorder.wait_for(RequestFinished)
        assert anyio.current_time() - began < SLOWLY.max_interval + 1
        assert finished.request_id == behind.request_id
        assert waiting.started == 2
        waiting.go.set()


@pytest.mark.parametrize(
    "limits",
    [{"rate_limit": "20/s"}, {"max_concurrency": 2}],
    ids=["rate_limit", "max_concurrency"],
)
async def test_a_limited_action_does_not_make_the_worker_read_at_each_claim(
    world: World, limits: dict[str, Any]
) -> None:
    """With 2,000 requests waiting for it, twenty are claimed each second, of two reads."""

    @handler("limited", **limits)
    async def limited(_payload: dict[str, Any], _ctx: Context) -> None:
        await anyio.sleep(0.1)

    world.engine.inner._page_items = 5000  # about 1 MB, the most that DynamoDB returns
    await enqueue(world, 2000, action="limited")
    async with running(world.app([limited], poll=PollSettings())):
        await world.recorder.wait_for(RequestFinished, 100, within=10)
        before, began = len(world.engine.calls), anyio.current_time()
        await world.recorder.wait_for(RequestFinished, 300, within=20)
        calls = Counter(world.engine.calls[before:])
        seconds = anyio.current_time() - began
    assert seconds <= 200 / 20 + 1
    # Of PENDING three pages, and one of each lane: an idle worker reads the lanes, too.
    assert calls["query"] <= 10 * seconds, (calls, seconds)


async def test_no_more_of_an_action_run_than_it_allows(world: World) -> None:
    """Its limit is used fully, and other actions run beside it."""
    watched = Watched()
    for _ in range(12):
        await world.enqueue("limited")
        await world.enqueue("free")
    limited = watched.handler("limited", max_concurrency=2)
    async with running(world.app([limited, watched.handler("free")], concurrency=8)):
        await world.recorder.wait_for(RequestFinished, 24)
    assert watched.most["limited"] == 2
    assert watched.most["free"] >= 6


async def test_no_more_of_a_tenant_run_than_allowed(world: World) -> None:
    """The limit counts all actions of a tenant. Requests without a tenant are not limited."""
    watched = Watched()
    for number in range(36):
        tenant = ("a", "b", None)[number % 3]
        await world.enqueue(("one", "two")[number % 2], tenant_id=tenant)
    handlers = [watched.handler("one"), watched.handler("two")]
    async with running(world.app(handlers, concurrency=10, tenant_concurrency=2)):
        await world.recorder.wait_for(RequestFinished, 36)
    assert (watched.most["a"], watched.most["b"]) == (2, 2)
    assert watched.most[None] >= 6


@pytest.mark.parametrize("concurrency", [1, 2, 5])
async def test_a_small_tenant_does_not_wait_for_a_large_one(concurrency: int, world: World) -> None:
    """Its two requests are among the first, although fifty of another tenant are older."""
    watched = Watched()
    await enqueue(world, 50, action="work", tenant_id="large")
    await enqueue(world, 2, action="work", tenant_id="small")
    async with running(world.app([watched.handler()], concurrency=concurrency)):
        await world.recorder.wait_for(RequestFinished, 52, within=600)
    assert [place for place, name in enumerate(watched.order) if name == "small"][-1] < 5


@pytest.mark.usefixtures("small_pages")
async def test_a_small_tenant_behind_many_pages_is_found(world: World) -> None:
    """The cursor moves a page further at each poll, so the tenant is served long before the end."""
    watched = Watched()
    await enqueue(world, 30 * PAGE, action="work", tenant_id="large")
    small = await world.enqueue("work", tenant_id="small")
    async with running(world.app([watched.handler()], concurrency=1)):
        await world.recorder.wait_for(RequestStarted, 40, within=600)
        assert watched.order.count("small") == 1
        assert (await world.get(small)).status is not RequestStatus.PENDING


class Again:
    """A handler that asks to run later, once, and remembers when it was called."""

    def __init__(self, after: float) -> None:
        self.called: list[float] = []
        self._after = after

    def handler(self) -> Handler:
        return handler("again")(self._run)

    async def _run(self, _payload: dict[str, Any], _ctx: Context) -> None:
        self.called.append(anyio.current_time())
        if len(self.called) == 1:
            raise RetryLater(after=self._after)

    def late(self) -> float:
        first, second = self.called
        return round(second - first - self._after, 3)  # times are stored in microseconds


@pytest.mark.parametrize("after", [0.0, 0.5, 7.3, 60.0, 3000.0])
async def test_a_retry_starts_on_time(after: float, world: World) -> None:
    """A lone worker that polls every 10 s when idle starts it within a second of its time."""
    again = Again(after)
    await world.enqueue("again")
    async with running(world.app([again.handler()], poll=SLOWLY)):
        await world.recorder.wait_for(RequestFinished, 2, within=4000)
    assert 0 <= again.late() < 1


async def snooze(world: World, times: int, *, hours: float) -> None:
    """Make requests that are older than all others and RETRYING for hours."""
    for number in range(times):
        created = world.clock.now() - timedelta(days=1, seconds=-number)
        claim = await world.claim("again", created_at=created)
        await world.stores.requests.retry(claim, timedelta(hours=hours), counts=False)


@pytest.mark.usefixtures("small_pages")
async def test_a_retry_behind_many_others_starts_on_time(world: World) -> None:
    """Ten pages that are due in a day hide it from the first page, and the cursor finds it."""
    again = Again(60.0)
    await snooze(world, 10 * PAGE, hours=24)
    await world.enqueue("again")
    async with running(world.app([again.handler()], poll=SLOWLY)):
        await world.recorder.wait_for(RequestFinished, 2, within=4000)
    assert 0 <= again.late() < 1


@pytest.mark.usefixtures("small_pages")
async def test_a_retry_is_not_hidden_by_a_saturated_action(world: World) -> None:
    """Requests that meet a limit are skipped, PENDING or RETRYING."""
    waiting = Waiting("slow")
    slow = handler("slow", max_concurrency=1)(waiting.handler.function)
    again = Again(60.0)
    await enqueue(world, 10 * PAGE, action="slow")
    await world.enqueue("again")
    async with running(world.app([slow, again.handler()], poll=SLOWLY)):
        await world.recorder.wait_for(RequestFinished, 2, within=4000)
        waiting.go.set()
    assert 0 <= again.late() < 1


async def test_retries_that_are_due_together_start_together(world: World) -> None:
    """All that fit start at the same poll."""
    starts: list[float] = []

    @handler("again")
    async def again(_payload: dict[str, Any], ctx: Context) -> None:
        starts.append(anyio.current_time())
        if len(starts) <= 20:
            raise RetryLater(after=3600 - anyio.current_time())
        assert ctx.attempt == 1

    for _ in range(20):
        await world.enqueue("again")
    async with running(world.app([again], poll=SLOWLY)):
        await world.recorder.wait_for(RequestFinished, 40, within=8000)
    assert starts[20] == pytest.approx(3600, abs=1)
    assert starts[-1] - starts[20] < 1
