"""The permits that a worker holds of one limit."""

from __future__ import annotations

from streamer_store.rates import MICROSECONDS, Block, Rate
from streamer_worker.intake.permits import HeldPermits

NOW = 1_800_000_000 * MICROSECONDS
SECOND = MICROSECONDS
RATE = Rate(10)
TENTH = SECOND // 10


def block(permits: int, *, at: int = NOW, taken_at: int | None = None) -> Block:
    taken = at if taken_at is None else taken_at
    return Block(rate=RATE, arrival=at, permits=permits, taken_at=taken)


def test_a_permit_is_good_from_its_own_time_on() -> None:
    """Before it none is used, and after it the permit is void. Proves RATE-2."""
    held = HeldPermits(RATE)
    held.grant(block(3), NOW)
    assert held.good(NOW - 1) == 0
    assert held.use(NOW - 1) is None
    assert [held.good(NOW + number * TENTH) for number in range(3)] == [1, 2, 3]
    assert held.good(NOW + RATE.lifetime) == 2
    assert held.use(NOW + RATE.lifetime) == NOW + TENTH
    assert held.good(NOW + SECOND) == 0
    assert held.take_counts(NOW + SECOND).expired == 2


def test_a_permit_that_is_given_back_is_used_next_until_it_is_void() -> None:
    """It keeps its own time."""
    held = HeldPermits(RATE)
    held.grant(block(2), NOW)
    first = held.use(NOW)
    assert first == NOW
    held.give_back(first)
    assert held.use(NOW + TENTH) == first
    held.give_back(first)
    assert held.good(NOW + RATE.lifetime) == 1


def test_nothing_is_asked_for_unless_a_request_waits() -> None:
    """Then half of the last block may be left."""
    held = HeldPermits(RATE)
    assert held.to_ask(NOW) == 0
    held.miss(NOW)
    assert held.to_ask(NOW) == 1
    held.is_asking = True
    assert held.to_ask(NOW) == 0


def test_blocks_grow_while_all_is_used() -> None:
    """Up to half a second's worth."""
    held = HeldPermits(RATE)
    sizes = []
    now = NOW
    for _ in range(5):
        held.miss(now)
        sizes.append(held.to_ask(now))
        held.grant(block(sizes[-1], at=now, taken_at=now), now)
        for _ in range(sizes[-1]):
            assert held.use(now) is not None
            now += TENTH
    assert sizes == [1, 2, 4, 5, 5]


def test_a_block_after_permits_were_void_is_as_large_as_what_was_used() -> None:
    """So a worker with few requests takes little from the others."""
    held = HeldPermits(RATE)
    held.grant(block(5), NOW)
    assert held.use(NOW) == NOW
    later = NOW + 2 * SECOND
    held.miss(later)
    assert held.to_ask(later) == 1


def test_a_worker_that_uses_nothing_asks_less_often() -> None:
    """Once in 1.5 seconds from the third block on: its permits are lost for the others."""
    held = HeldPermits(RATE)
    now = NOW
    pauses = []
    for _ in range(6):
        held.miss(now)
        while not held.to_ask(now):
            now += TENTH
        held.grant(block(1, at=now), now)
        granted = now
        now += SECOND // 2
        assert held.good(now) == 0
        held.miss(now)
        pauses.append(((held.next_ask(now) or 0) - granted) / SECOND)
    assert pauses == [0.5, 0.5, 1, 1, 1, 1]


def test_a_refusal_is_waited_for() -> None:
    """Nothing is asked for before the time that the store gave."""
    held = HeldPermits(RATE)
    held.miss(NOW)
    held.refuse(NOW + SECOND)
    assert held.to_ask(NOW + SECOND - 1) == 0
    assert held.next_ask(NOW) == NOW + SECOND
    assert held.to_ask(NOW + SECOND) == 1
    assert held.take_counts(NOW + SECOND).refused == 1


def test_a_request_that_is_gone_asks_for_nothing() -> None:
    """A limit of which no request was seen waiting for five seconds is not asked for."""
    held = HeldPermits(RATE)
    held.miss(NOW)
    assert held.to_ask(NOW + 6 * SECOND) == 0
    assert not held.is_missed


def test_the_seconds_in_which_a_request_waited_are_counted() -> None:
    """From when none was good until one is, also while it still waits."""
    held = HeldPermits(RATE)
    held.miss(NOW)
    assert held.take_counts(NOW + SECOND).saturated == 1
    held.grant(block(1, at=NOW + 2 * SECOND), NOW + SECOND)
    assert not held.wake(NOW + SECOND)
    assert held.next_good() == NOW + 2 * SECOND
    assert held.wake(NOW + 2 * SECOND)
    assert not held.wake(NOW + 2 * SECOND)
    counts = held.take_counts(NOW + 9 * SECOND)
    assert (counts.granted, counts.saturated) == (1, 1)


def test_a_limit_that_nobody_waits_for_any_more_is_not_saturated() -> None:
    """Also while the next permit is an hour away."""
    held = HeldPermits(RATE)
    held.miss(NOW)
    held.refuse(NOW + 3600 * SECOND)
    assert held.to_ask(NOW + 6 * SECOND) == 0
    assert not held.is_missed
    assert held.take_counts(NOW + 6 * SECOND).saturated == 0
