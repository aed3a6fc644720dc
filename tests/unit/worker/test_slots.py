"""Counting slots."""

from __future__ import annotations

import anyio
import pytest

from streamer_worker.events import Events, SlotsChanged
from streamer_worker.slots import Slots
from unit.worker.harness import Recorder

pytestmark = pytest.mark.anyio


def test_slots_are_taken_and_given_back() -> None:
    """Used and free always add up to the total."""
    slots = Slots(2, events=Events())
    slots.take()
    slots.take()
    assert (slots.used, slots.free) == (2, 0)
    slots.give()
    assert (slots.used, slots.free) == (1, 1)


def test_every_change_is_told() -> None:
    """The gauges follow from the first moment on, at rest too."""
    recorder = Recorder()
    slots = Slots(2, events=Events(recorder))
    slots.take()
    slots.give()
    assert recorder.events == [SlotsChanged(used=used, total=2) for used in (0, 1, 0)]


async def test_waiting_for_a_free_slot_ends_when_one_is_given() -> None:
    """Whoever waits goes on once there is a free slot, and not before."""
    slots = Slots(1, events=Events())
    slots.take()
    passed = anyio.Event()

    async def wait() -> None:
        await slots.wait_free()
        passed.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert not passed.is_set()
        slots.give()
        await passed.wait()


async def test_waiting_for_rest_ends_with_the_last_one() -> None:
    """One of two given back is not yet rest."""
    slots = Slots(3, events=Events())
    slots.take()
    slots.take()
    passed = anyio.Event()

    async def wait() -> None:
        await slots.wait_idle()
        passed.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        slots.give()
        await anyio.wait_all_tasks_blocked()
        assert not passed.is_set()
        slots.give()
        await passed.wait()


async def test_nothing_is_waited_for_when_there_is_nothing_to_wait_for() -> None:
    """A free slot and rest are there at once."""
    slots = Slots(1, events=Events())
    with anyio.fail_after(1):
        await slots.wait_free()
        await slots.wait_idle()
