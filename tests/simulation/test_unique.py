"""Unique keys while workers crash, calls fail, and copies of puts arrive late."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from simulation.runner import seeds, simulate
from simulation.schedule import Faults, Schedule, schedule_of
from streamer_store import codec, unique_conflicts, unique_producer, writes
from streamer_store.engine import Put
from streamer_store.schema import REQUESTS
from streamer_store.unique_conflicts import Answer

_FAULTS = Faults(before=0.02, after=0.05, late=0.05, twice=0.05, slow=0.05, stale=0.2)


def keyed(seed: int) -> Schedule:
    """Return a schedule with unique keys, whose producer often loses answers."""
    return replace(schedule_of(seed), keys=2, faults=_FAULTS)


@pytest.mark.parametrize("seed", seeds(20))
def test_a_key_never_runs_twice(seed: int) -> None:
    """Neither at once nor in the window, and no enqueue starts two runs. Workers die meanwhile:
    their requests are rescued, and keep their keys.

    Proves UNIQUE-1 and VERSION-2.
    """
    assert simulate(keyed(seed)) == []


def _nothing_is_required(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(writes, "enqueue_over", lambda _seen, item: Put(table=REQUESTS, item=item))


def _windows_do_not_count(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(codec, "window_end", lambda _item: None)


def _what_runs_is_replaced(patch: pytest.MonkeyPatch) -> None:
    answer_to = unique_conflicts.answer_to

    def answer(*arguments: object) -> Answer:
        answer_to(*arguments)  # type: ignore[arg-type]
        return Answer.RENEW

    patch.setattr(unique_producer, "answer_to", answer)


def _own_puts_are_not_recognised(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(unique_producer, "RUN", "Nothing")


@pytest.mark.parametrize(
    "broken",
    [
        _nothing_is_required,
        _windows_do_not_count,
        _what_runs_is_replaced,
        _own_puts_are_not_recognised,
    ],
)
def test_the_checks_detect_a_broken_producer(
    broken: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative controls: each broken variant has a violation within 200 schedules."""
    broken(monkeypatch)
    assert any(simulate(keyed(seed)) for seed in range(200))
