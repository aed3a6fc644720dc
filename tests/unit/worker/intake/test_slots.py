"""Counting slots."""

from __future__ import annotations

import anyio
import pytest

from streamer_worker.events import Events, SlotsChanged
from streamer_worker.intake.slots import Slot, Slots
from unit.worker.benches import PollBench
from unit.worker.harness import Recorder, World

pytestmark = pytest.mark.anyio


def test_slots_are_taken_and_released() -> None:
    """Used and free slots always add up to the total."""
    slots = Slots(2, events=Events())
    first = slots.take("r1")
    slots.take("r2")
    assert (slots.used, slots.free) == (2, 0)
    slots.release(first)
    assert (slots.used, slots.free) == (1, 1)


def reported(recorder: Recorder) -> list[int]:
    """Return the numbers of used slots that were emitted since the last call."""
    used = [event.used for event in recorder.of(SlotsChanged)]
    recorder.events.clear()
    return used


def test_changes_are_emitted() -> None:
    """The gauges are right from the start, even if nothing happens."""
    recorder = Recorder()
    slots = Slots(2, events=Events(recorder))
    assert recorder.events == [SlotsChanged(used=0, total=2)]
    slot = slots.take("r1")
    slots.report()
    slots.report()
    slots.release(slot)
    assert reported(recorder) == [0, 1, 0]


def test_slots_that_are_taken_together_are_emitted_once() -> None:
    """Half of the events of a busy worker would report slots that are used again at once."""
    recorder = Recorder()
    slots = Slots(4, events=Events(recorder))
    taken = [slots.take(f"r{number}") for number in range(3)]
    slots.report()
    assert reported(recorder) == [0, 3]
    for slot in taken:
        slots.vacate(slot)
    again = [slots.take(f"s{number}") for number in range(3)]
    slots.report()
    for slot in taken:
        slots.release(slot)
    assert reported(recorder) == []
    for slot in again:
        slots.vacate(slot)
    slots.release(again[0])
    assert reported(recorder) == [0]


def test_that_no_slot_is_free_is_emitted_at_once() -> None:
    """And that one is. Health checks expect no polls meanwhile."""
    recorder = Recorder()
    slots = Slots(2, events=Events(recorder))
    first = slots.take("r1")
    assert reported(recorder) == [0]
    second = slots.take("r2")
    assert reported(recorder) == [2]
    slots.vacate(first)
    assert reported(recorder) == [1]
    slots.vacate(second)
    assert reported(recorder) == []


async def test_each_poll_reports_the_slots(world: World) -> None:
    """During an outage of outcomes no request is settled, and none may wait to be claimed."""
    bench = PollBench(world, slots=3)
    slot = bench.slots.take("r1")
    await bench.poller.step()
    bench.slots.vacate(slot)
    await bench.poller.step()
    assert reported(world.recorder) == [0, 1, 0]
    bench.close()


async def test_waiting_for_a_free_slot_ends_when_one_is_released() -> None:
    """Not before."""
    slots = Slots(1, events=Events())
    first = slots.take("r1")
    passed = anyio.Event()

    async def wait() -> None:
        await slots.wait_free()
        passed.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert not passed.is_set()
        slots.release(first)
        await passed.wait()


async def test_waiting_until_all_are_settled_ends_with_the_last_one() -> None:
    """One of two settled requests is not enough."""
    slots = Slots(3, events=Events())
    first, second = slots.take("r1"), slots.take("r2")
    passed = anyio.Event()

    async def wait() -> None:
        await slots.wait_settled()
        passed.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        slots.release(first)
        await anyio.wait_all_tasks_blocked()
        assert not passed.is_set()
        slots.settle(second)
        await passed.wait()


async def test_both_waits_return_at_once_when_nothing_is_held() -> None:
    """A slot is free, and no request is held."""
    slots = Slots(1, events=Events())
    with anyio.fail_after(1):
        await slots.wait_free()
        await slots.wait_settled()


def test_a_settled_request_may_keep_its_slot() -> None:
    """As when its thread still runs: no request is held, and no slot is free."""
    slots = Slots(1, events=Events())
    slot = slots.take("r1", action="thread", tenant_id="t")
    assert slots.holds("r1")
    slots.settle(slot)
    assert (slots.holds("r1"), slots.held, slots.free) == (False, 0, 0)
    assert (slots.of_action("thread"), slots.of_tenant("t")) == (1, 1)
    slots.release(slot)
    slots.release(slot)
    assert (slots.free, slots.of_action("thread"), slots.of_tenant("t")) == (1, 0, 0)


def test_a_request_may_be_held_twice() -> None:
    """While the thread of an earlier attempt still runs. It is held until both are settled."""
    slots = Slots(2, events=Events())
    first, second = slots.take("r1"), slots.take("r1")
    slots.release(first)
    assert slots.holds("r1")
    slots.release(second)
    assert not slots.holds("r1")


def test_a_vacated_slot_is_free_and_its_request_is_held() -> None:
    """The next claim need not wait for the outcome. No sweep rescues the request."""
    slots = Slots(1, events=Events())
    slot = slots.take("r1", action="a", tenant_id="t")
    slots.vacate(slot)
    assert (slots.free, slots.held, slots.holds("r1"), slots.in_flight) == (1, 1, True, 1)
    assert (slots.of_action("a"), slots.of_tenant("t")) == (0, 0)
    slots.release(slot)
    assert (slots.free, slots.held, slots.holds("r1"), slots.in_flight) == (1, 0, False, 0)


def test_requests_without_a_slot_are_bounded() -> None:
    """If outcomes cannot be written, a worker holds twice as many requests as it has slots."""
    recorder = Recorder()
    slots = Slots(2, events=Events(recorder))
    held: list[Slot] = []
    while slots.free:
        held.append(slots.take(f"r{len(held)}"))
        slots.vacate(held[-1])
    assert (slots.held, slots.used, slots.in_flight) == (4, 2, 4)
    assert recorder.of(SlotsChanged)[-1].used == 2
    slots.settle(held[0])
    assert (slots.held, slots.free) == (3, 1)
    slots.release(held[0])
    assert (slots.held, slots.free) == (3, 1)


async def test_only_a_handlers_end_is_reported_as_freed() -> None:
    """A claim that was not won is not: after an outage the poller must pause."""
    slots = Slots(3, events=Events())
    freed = slots.freed.next
    slots.give_back(slots.take("r1"))
    assert not freed.is_set()
    assert (slots.free, slots.held) == (3, 0)
    slots.vacate(slots.take("r2"))
    assert freed.is_set()
    slot = slots.take("r3")
    freed = slots.freed.next
    slots.settle(slot)  # the probation is free
    assert freed.is_set()
