"""Which of the waiting requests a worker takes next."""

from __future__ import annotations

import math
from collections import Counter
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from streamer_store import Candidate, RequestStatus
from streamer_worker.intake.selection import Capacity, Limit, RankedCandidate, choose
from support import START


def waiting(
    name: str, *, tenant: str | None = None, action: str = "echo", age: float | None = 0
) -> Candidate:
    return Candidate(
        request_id=name,
        status=RequestStatus.PENDING,
        action=action,
        tenant_id=tenant,
        created_at=None if age is None else START - timedelta(seconds=age),
    )


def found(*candidates: Candidate) -> list[RankedCandidate]:
    return [RankedCandidate(candidate=each) for each in candidates]


def chosen(
    each: list[RankedCandidate], room: Capacity, served: dict[str | None, int] | None = None
) -> list[str]:
    turns = served or {}
    return [one.request_id for one in choose(each, room, lambda tenant: turns.get(tenant, 0))]


def at_most(left: dict[str, float]) -> Limit:
    def limit(candidate: Candidate) -> tuple[str, float]:
        return candidate.action or "", left.get(candidate.action or "", math.inf)

    return limit


def test_the_oldest_goes_first() -> None:
    """Requests of unknown age before all: nobody knows how long they have waited."""
    some = found(
        waiting("young"), waiting("old", age=9), waiting("?", age=None), waiting("mid", age=5)
    )
    assert chosen(some, Capacity(total=4)) == ["?", "old", "mid", "young"]


def test_no_more_are_chosen_than_there_is_room() -> None:
    """None at all when there is none."""
    some = found(*(waiting(str(age), age=age) for age in range(5)))
    assert chosen(some, Capacity(total=2)) == ["4", "3"]
    assert chosen(some, Capacity(total=0)) == []


def test_others_ones_are_left_while_there_are_own_ones() -> None:
    """However old those are: they have a home elsewhere."""
    others = RankedCandidate(candidate=waiting("theirs", age=100), rank=1)
    assert chosen([others, *found(waiting("ours"))], Capacity(total=2)) == ["ours"]
    assert chosen([others], Capacity(total=2)) == ["theirs"]


def test_own_ones_that_cannot_run_do_not_keep_others_waiting() -> None:
    """A worker whose own action is saturated helps the rest."""
    others = RankedCandidate(candidate=waiting("theirs", action="echo"), rank=1)
    room = Capacity(total=2, limits=(at_most({"bulk": 0}),))
    assert chosen([others, *found(waiting("ours", action="bulk"))], room) == ["theirs"]


def test_those_that_we_are_next_in_line_for_go_first() -> None:
    """So that two workers with nothing of their own take different ones."""
    some = [
        RankedCandidate(candidate=waiting(str(rank), age=rank), rank=rank) for rank in (3, 1, 2)
    ]
    assert chosen(some, Capacity(total=2)) == ["1", "2"]


def test_tenants_take_turns() -> None:
    """A tenant with a thousand requests delays another's one request by one."""
    many = [waiting(f"big{age}", tenant="big", age=1000 + age) for age in range(1000)]
    one = waiting("small", tenant="small")
    assert chosen(found(*many, one), Capacity(total=3)) == ["big999", "small", "big998"]


def test_the_turn_is_remembered_between_looks() -> None:
    """With a single slot, too, each tenant gets every other one."""
    some = found(waiting("a", tenant="a", age=9), waiting("b", tenant="b"))
    assert chosen(some, Capacity(total=1), {"a": 5}) == ["b"]
    assert chosen(some, Capacity(total=1), {"a": 5, "b": 6}) == ["a"]


def test_what_failed_before_goes_last_in_its_tenants_turn() -> None:
    """One that cannot be claimed does not stand before those that can."""
    again = RankedCandidate(candidate=waiting("again", age=100), previously_failed=True)
    assert chosen([again, *found(waiting("new"))], Capacity(total=1)) == ["new"]


def test_a_saturated_action_is_passed_over() -> None:
    """What stands behind it is reached, and no more of it is taken than may run."""
    some = found(
        *(waiting(f"bulk{age}", action="bulk", age=100 + age) for age in range(50)),
        waiting("echo"),
    )
    room = Capacity(total=10, limits=(at_most({"bulk": 2}),))
    assert chosen(some, room) == ["bulk49", "bulk48", "echo"]


def test_a_limit_that_is_exceeded_already_lets_nothing_through() -> None:
    """Also when it was lowered below what runs."""
    room = Capacity(total=10, limits=(at_most({"echo": -3}),))
    assert chosen(found(waiting("x")), room) == []


def test_limits_of_the_same_name_are_counted_apart() -> None:
    """A tenant that is called like an action does not use up its room."""

    def by_tenant(candidate: Candidate) -> tuple[str, float]:
        return candidate.tenant_id or "", 1

    some = found(waiting("1", tenant="echo", age=2), waiting("2", tenant="other", age=1))
    room = Capacity(total=10, limits=(by_tenant, at_most({"echo": 2})))
    assert chosen(some, room) == ["1", "2"]


_candidates = st.builds(
    waiting,
    st.uuids().map(str),
    tenant=st.sampled_from(["a", "b", None]),
    action=st.sampled_from(["echo", "bulk"]),
    age=st.none() | st.integers(0, 100),
)


@given(
    st.lists(
        st.builds(
            RankedCandidate,
            candidate=_candidates,
            rank=st.integers(0, 2),
            previously_failed=st.booleans(),
        )
    ),
    st.integers(0, 10),
    st.integers(-1, 4),
)
def test_whatever_is_found_the_room_is_filled_and_not_exceeded(
    some: list[RankedCandidate], total: int, bulk: int
) -> None:
    """No limit is exceeded, nothing is chosen twice; of our own, or else of all that was found,
    nothing that fits is left out.
    """
    room = Capacity(total=total, limits=(at_most({"bulk": bulk}),))
    taken = choose(some, room, lambda _: 0)
    counts = Counter(each.action for each in taken)
    assert len({each.request_id for each in taken}) == len(taken) <= total
    assert counts["bulk"] <= max(bulk, 0)

    def fitting(offers: list[RankedCandidate]) -> int:
        offered = Counter(each.candidate.action for each in offers)
        return min(total, offered["echo"] + min(offered["bulk"], max(bulk, 0)))

    assert len(taken) == (fitting([each for each in some if each.rank == 0]) or fitting(some))
