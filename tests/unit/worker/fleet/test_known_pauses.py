"""What a worker knows of the pauses, while it writes some and reads them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from streamer_store import Pause, PauseKind, StoreUnavailable
from streamer_store.pause import CONTROL_PAUSE
from streamer_store.values import Item
from streamer_worker.fleet.pauses import KnownPauses
from streamer_worker.runtime import Runtime
from support import START, ManualClock
from unit.worker.harness import World

pytestmark = pytest.mark.anyio
HOLD = Pause(kind=PauseKind.HOLD, name="echo", by="me", at=START, until=START + timedelta(hours=1))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def known(world: World, clock: ManualClock) -> KnownPauses:
    return KnownPauses(runtime=Runtime(clock=clock, rng=world.rng, events=world.events))


async def _row(world: World) -> Item | None:
    return await world.stores.workers.read_control(CONTROL_PAUSE)


def _is_held(known: KnownPauses) -> bool:
    return bool(known.covering("echo", None))


async def test_a_read_that_began_before_a_write_does_not_undo_it(
    world: World, known: KnownPauses, clock: ManualClock
) -> None:
    """Also one that ends while the write is on its way. The next read decides."""
    old = await _row(world)
    began = clock.steady()
    with known.writing(HOLD):
        known.on_row(old, began=began)
        assert _is_held(known)
        clock.advance(1)
        later = clock.steady()
        known.on_row(old, began=later)
        assert _is_held(known)
        clock.advance(1)
    known.on_row(old, began=later)
    assert _is_held(known)
    clock.advance(1)
    known.on_row(old, began=clock.steady())
    assert not _is_held(known)


async def test_a_write_that_fails_is_in_force_until_the_next_read(
    world: World, known: KnownPauses, clock: ManualClock
) -> None:
    """The worker that saw the reason holds the action back at least so long."""
    old = await _row(world)
    with pytest.raises(StoreUnavailable), known.writing(HOLD):
        raise StoreUnavailable("away")
    assert _is_held(known)
    clock.advance(1)
    known.on_row(old, began=clock.steady())
    assert not _is_held(known)


async def test_a_read_that_began_before_an_end_does_not_undo_it(
    world: World, known: KnownPauses, clock: ManualClock
) -> None:
    """What another worker has written meanwhile is known all the same."""
    await world.stores.pauses.start(HOLD)
    await world.stores.pauses.start(Pause(kind=PauseKind.TENANT, name="a", by="x", at=START))
    row, began = await _row(world), clock.steady()
    known.on_row(row, began=began)
    assert _is_held(known)
    clock.advance(1)
    known.on_ended(HOLD)
    known.on_row(row, began=began)
    assert not _is_held(known)
    assert known.covering("other", "a")
    clock.advance(1)
    known.on_row(row, began=clock.steady())
    assert _is_held(known)
