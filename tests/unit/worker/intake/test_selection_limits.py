"""Selections of which a part waits for limits: what is ranked, and what a claim tells."""

from __future__ import annotations

from typing import Any

from streamer_worker.intake.rotation import RankedCandidate
from streamer_worker.intake.selection import Selection, new_turns
from unit.worker.intake.test_selection import BULK, Limited, own, selection_of, take_all, waiting


def test_requests_homed_elsewhere_are_ranked_once_and_only_if_they_are_needed() -> None:
    """Their ranks cost time. Once they are dropped, they are not taken any more."""
    ranked: list[list[str]] = []

    def rank(others: list[RankedCandidate]) -> list[RankedCandidate]:
        ranked.append([each.candidate.request_id for each in others])
        return others

    others = [RankedCandidate(candidate=waiting(name), rank=1) for name in "abc"]
    capacity, turns = Limited(), new_turns()
    rest: dict[str, Any] = {"others": others, "rank_others": rank}
    rest |= {"capacity": capacity, "turns": turns}
    selection = Selection(own=own(waiting("x")), **rest)
    assert len(take_all(selection, capacity, 9)) == 1
    assert not selection.drop_others()
    assert ranked == []
    selection = Selection(**rest)
    assert len(take_all(selection, capacity, 2)) == 2
    assert ranked == [["a", "b", "c"]]
    assert selection.drop_others()
    assert selection.take() is None


def test_requests_homed_elsewhere_that_do_not_fit_are_not_ranked() -> None:
    """Thousands of them may wait for a limit, and they are no reason to poll again at once."""
    ranked: list[list[str]] = []

    def rank(others: list[RankedCandidate]) -> list[RankedCandidate]:
        ranked.append([each.candidate.request_id for each in others])
        return others

    capacity = Limited({BULK: 1})
    bulk = [waiting(f"bulk-{number}", action="bulk") for number in range(3)]
    others = [RankedCandidate(candidate=each, rank=1) for each in (*bulk, waiting("echo"))]
    selection = Selection(others=others, rank_others=rank, capacity=capacity, turns=new_turns())
    assert len(take_all(selection, capacity, 9)) == 2
    assert not selection.drop_others()
    selection = Selection(others=others, rank_others=rank, capacity=capacity, turns=new_turns())
    assert len(take_all(selection, capacity, 9)) == 1
    assert ranked[1] == ["echo"]


def test_a_request_is_bounded_if_its_limit_holds_back_another() -> None:
    """Not if its limit is reached and nothing waits for it, nor if others wait for theirs."""
    capacity = Limited({BULK: 1})
    first, second = waiting("1", action="bulk", age=9), waiting("2", action="bulk")
    selection = selection_of(capacity, first, second, waiting("echo"))
    taken = take_all(selection, capacity, 9)
    assert [each.request_id for each in taken] == ["1", "echo"]
    assert selection.is_bounded(first)
    assert not selection.is_bounded(taken[1])
    alone = selection_of(Limited({BULK: 1}), first)
    assert alone.take() == first
    assert not alone.is_bounded(first)
