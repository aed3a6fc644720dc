"""Which requests are claimed while something is paused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import Any

import anyio
import pytest

from streamer_store import Pause, PauseKind, RequestStatus, StoreUnavailable
from streamer_worker import Context, Fuse, handler
from streamer_worker.events import FuseProbed, StepFailed
from streamer_worker.fleet.view import FleetView
from support import START
from unit.worker.benches import PollBench, enqueue
from unit.worker.harness import World, echo, virtual_time

pytestmark = [pytest.mark.anyio, virtual_time]
PAUSE = Pause(kind=PauseKind.ACTION, name="echo", by="ann@desk", at=START)
FUSE = replace(PAUSE, kind=PauseKind.FUSE)


@handler("other")
async def other(_payload: dict[str, Any], _ctx: Context) -> None:
    """A handler of another action."""


async def _until(moment: float) -> None:
    """Wait until this second of the virtual time."""
    await anyio.sleep(moment - anyio.current_time())


@pytest.fixture
def bench(world: World) -> Iterator[PollBench]:
    with closing(PollBench(world, echo, other)) as bench:
        yield bench


@pytest.mark.parametrize(
    ("kind", "name", "claimed"),
    [
        (PauseKind.ALL, "", set()),
        (PauseKind.ACTION, "echo", {"other"}),
        (PauseKind.HOLD, "echo", {"other"}),
        (PauseKind.TENANT, "acme", {"other"}),
        (PauseKind.TENANT, "else", {"echo", "other"}),
        (PauseKind.SCHEDULE, "echo", {"echo", "other"}),
    ],
)
async def test_what_is_paused_is_not_claimed(
    world: World, bench: PollBench, kind: PauseKind, name: str, claimed: set[str]
) -> None:
    """Requests of a paused action or tenant wait as they are, the others run. Proves PAUSE-1."""
    bench.pauses.on_written(replace(PAUSE, kind=kind, name=name))
    paused = await world.enqueue("echo", tenant_id="acme")
    runs = await world.enqueue("other")
    names = {paused.request_id: "echo", runs.request_id: "other"}
    assert {names[request_id] for request_id in await bench.poll()} == claimed
    waiting = await world.get(paused)
    if "echo" not in claimed:
        assert (waiting.status, waiting.version) == (RequestStatus.PENDING, paused.version)


async def test_a_resumed_request_is_claimed_at_the_next_poll(
    world: World, bench: PollBench
) -> None:
    """Nothing about a paused request is remembered that would delay it."""
    bench.pauses.on_written(PAUSE)
    request = await world.enqueue()
    assert await bench.poll() == []
    bench.pauses.on_ended(PAUSE)
    assert await bench.poll() == [request.request_id]


async def test_a_pause_is_over_by_the_own_clock(world: World, bench: PollBench) -> None:
    """A pause that has an end ends without any read."""
    until = world.clock.now() + timedelta(seconds=30)
    bench.pauses.on_written(replace(PAUSE, until=until))
    request = await world.enqueue()
    assert await bench.poll() == []
    await _until(29.9)
    assert await bench.poll() == []
    await _until(30)
    assert await bench.poll() == [request.request_id]


async def test_a_selection_that_was_read_before_is_not_used(world: World, bench: PollBench) -> None:
    """Requests of a page that was read before the pause are not claimed from it."""
    bench.slots.take("busy")
    for _ in range(8):
        bench.slots.take("busy")
    await enqueue(world, 3)
    await bench.poller.step()
    (first,) = bench.assignments()
    bench.pauses.on_written(PAUSE)
    bench.slots.release(first.slot)
    await bench.poller.step()
    assert bench.assignments() == []
    bench.pauses.on_ended(PAUSE)
    await bench.poller.step()
    assert len(bench.assignments()) == 1


async def test_a_pause_between_selection_and_claim_holds(world: World, bench: PollBench) -> None:
    """A candidate that was reserved before the pause is not claimed after it."""
    request = await world.enqueue()
    candidate = await world.candidate(request)
    slot = bench.claimer.reserve(candidate)
    bench.pauses.on_written(PAUSE)
    assert await bench.claimer.claim(candidate, slot) is None
    assert bench.slots.used == 0
    assert (await world.get(request)).status is RequestStatus.PENDING


async def test_a_fuse_that_blows_between_selection_and_claim_holds(
    world: World, bench: PollBench
) -> None:
    """The request that was selected before is no probe, because none is due yet."""
    request = await world.enqueue()
    candidate = await world.candidate(request)
    fuse = replace(FUSE, probe_at=world.clock.now() + timedelta(seconds=10))
    await world.stores.pauses.start(fuse)
    row = await world.stores.workers.read_control("control#pause")
    bench.pauses.on_row(row, began=math.inf)
    slot = bench.claimer.reserve(candidate)
    assert await bench.claimer.claim(candidate, slot) is None
    assert bench.slots.used == 0
    await _until(10)
    slot = bench.claimer.reserve(candidate)
    assert await bench.claimer.claim(candidate, slot) is not None


async def test_a_paused_action_that_no_worker_knows_is_not_failed(
    world: World, bench: PollBench
) -> None:
    """Requests of an unknown action that is paused wait beyond `unknown_action_timeout`."""
    bench.fleet = FleetView(worker_id="me")
    bench.pauses.on_written(replace(PAUSE, name="gone"))
    request = await world.enqueue("gone")
    assert await bench.poll() == []
    await _until(10_000)
    assert await bench.poll() == []
    assert (await world.get(request)).status is RequestStatus.PENDING


async def test_paused_retries_are_not_kept_in_memory(world: World, bench: PollBench) -> None:
    """Many paused retries displace no others that become due."""
    request = await world.enqueue(max_retries=1)
    claim = await world.stores.requests.claim(await world.candidate(request), worker_id="w")
    await world.stores.requests.retry(claim, timedelta(seconds=1), error="no", code="NO")
    bench.pauses.on_written(PAUSE)
    await bench.poll()
    assert bench.poller._seen_requests.next_due() is None
    await _until(2)
    assert await bench.poll() == []
    assert bench.poller._seen_requests.due(lambda _: True) == []
    bench.pauses.on_ended(PAUSE)
    await _until(3)  # an empty lane is read once a second
    assert await bench.poll() == [request.request_id]


async def test_one_probe_is_claimed_when_it_is_due(world: World, bench: PollBench) -> None:
    """While a fuse is blown, one request is claimed each time that a probe is due."""
    probe_at = world.clock.now() + timedelta(seconds=10)
    fuse = replace(FUSE, probe_at=probe_at)
    await world.stores.pauses.start(fuse)
    bench.pauses.on_row(await world.stores.workers.read_control("control#pause"), began=math.inf)
    await enqueue(world, 5)
    assert await bench.poll() == []
    for moment in (10, 40, 70):
        await _until(moment - 0.1)
        assert await bench.poll() == []
        await _until(moment)
        (request_id,) = await bench.poll()
        assert await bench.poll() == []
        assert bench.gate.was_probe(request_id)
        assert not bench.gate.was_probe(request_id)
    assert len(world.recorder.of(FuseProbed)) == 3


async def test_each_probe_is_another_request(world: World, bench: PollBench) -> None:
    """None uses up its attempts while the fuse is blown. Then the oldest goes first again."""
    ids = await enqueue(world, 3, max_retries=9)
    probed = []
    for _ in range(4):
        await world.stores.pauses.start(replace(FUSE, probe_at=world.clock.now()))
        row = await world.stores.workers.read_control("control#pause")
        bench.pauses.on_row(row, began=math.inf)
        await bench.poller.step()
        for assignment in bench.assignments():
            probed.append(assignment.claim.request_id)
            await world.stores.requests.retry(assignment.claim, timedelta())
            bench.slots.release(assignment.slot)
        await anyio.sleep(2)
    assert (probed[:3], probed[3]) == (ids, ids[0])


async def test_one_worker_of_two_probes(world: World) -> None:
    """Of two workers that know the same probe, one claims a request. Proves PAUSE-3."""
    await world.stores.pauses.start(replace(FUSE, probe_at=world.clock.now()))
    row = await world.stores.workers.read_control("control#pause")
    await enqueue(world, 5)
    claimed = []
    for worker_id in ("one", "two"):
        with closing(PollBench(world, echo)) as bench:
            bench.gate._worker_id = worker_id
            bench.pauses.on_row(row, began=math.inf)
            claimed += await bench.poll()
    assert len(claimed) == 1


@pytest.mark.parametrize("kind", [PauseKind.ACTION, PauseKind.HOLD, PauseKind.ALL])
async def test_a_fuse_probes_nothing_that_is_paused_otherwise(
    world: World, bench: PollBench, kind: PauseKind
) -> None:
    """An operator's pause, or a hold, is stronger than the probe of a fuse."""
    bench.pauses.on_written(replace(FUSE, probe_at=world.clock.now()))
    name = "" if kind is PauseKind.ALL else "echo"
    bench.pauses.on_written(replace(PAUSE, kind=kind, name=name))
    await world.enqueue()
    assert await bench.poll() == []


async def test_a_probe_that_cannot_be_written_is_none(world: World, bench: PollBench) -> None:
    """If the table does not answer, no request is claimed, and the slot is free again."""
    bench.pauses.on_written(replace(FUSE, probe_at=world.clock.now()))
    await world.enqueue()
    world.engine.fail("update", StoreUnavailable("away"))
    assert await bench.poll() == []
    assert bench.slots.used == 0
    assert [event.loop for event in world.recorder.of(StepFailed)] == ["probe"]


async def test_the_handlers_fuse_says_how_often_is_probed(world: World) -> None:
    """`probe_every` of the handler is the time to the next probe."""

    @handler("echo", pause_after_failures=Fuse(failures=1, probe_every=timedelta(minutes=5)))
    async def fused(_payload: dict[str, Any], _ctx: Context) -> None: ...

    with closing(PollBench(world, fused)) as bench:
        await world.stores.pauses.start(replace(FUSE, probe_at=world.clock.now()))
        bench.pauses.on_row(
            await world.stores.workers.read_control("control#pause"), began=math.inf
        )
        await enqueue(world, 2)
        assert len(await bench.poll()) == 1
        await _until(299)
        assert await bench.poll() == []
        await _until(301)
        assert len(await bench.poll()) == 1


async def test_a_worker_that_lost_a_probe_writes_no_more(world: World, bench: PollBench) -> None:
    """Each try costs a write of the row. It waits until it has read when the next one is due."""
    fuse = replace(FUSE, probe_at=world.clock.now())
    await world.stores.pauses.start(fuse)
    bench.pauses.on_row(await world.stores.workers.read_control("control#pause"), began=math.inf)
    stored = (await world.stores.pauses.read_all())[0]
    soon = world.clock.now() + timedelta(seconds=30)
    assert await world.stores.pauses.move_probe(stored, soon, by="another") is not None
    await world.enqueue()
    updates = world.engine.calls.count("update")
    for _ in range(5):
        assert await bench.poll() == []
        await anyio.sleep(1)
    assert world.engine.calls.count("update") == updates + 1


async def test_a_probe_without_an_answer_holds_up_no_poll(world: World, bench: PollBench) -> None:
    """It is given up after two seconds, and requests of other actions go on."""
    bench.pauses.on_written(replace(FUSE, probe_at=world.clock.now()))
    await world.enqueue()
    world.engine.hold("update", when=lambda update: update.key == "control#pause")
    began = anyio.current_time()
    assert await bench.poll() == []
    assert anyio.current_time() - began <= 2.5
    request = await world.enqueue("other")
    assert await bench.poll() == [request.request_id]
