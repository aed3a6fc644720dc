"""Which of the waiting requests a worker claims next."""

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


def own(*candidates: Candidate) -> list[RankedCandidate]:
    return [RankedCandidate(candidate=candidate) for candidate in candidates]


def chosen(
    ranked: list[RankedCandidate],
    capacity: Capacity,
    served: dict[str | None, int] | None = None,
) -> list[str]:
    last_served = served or {}
    candidates = choose(ranked, capacity, lambda tenant: last_served.get(tenant, 0))
    return [candidate.request_id for candidate in candidates]


def at_most(left: dict[str, float]) -> Limit:
    def limit(candidate: Candidate) -> tuple[str, float]:
        return candidate.action or "", left.get(candidate.action or "", math.inf)

    return limit


def test_the_oldest_goes_first() -> None:
    """Requests of unknown age come first: they may have waited longest."""
    candidates = own(
        waiting("young"), waiting("old", age=9), waiting("?", age=None), waiting("mid", age=5)
    )
    assert chosen(candidates, Capacity(total=4)) == ["?", "old", "mid", "young"]


def test_no_more_are_chosen_than_the_capacity_allows() -> None:
    """None is chosen if there is no capacity."""
    candidates = own(*(waiting(str(age), age=age) for age in range(5)))
    assert chosen(candidates, Capacity(total=2)) == ["4", "3"]
    assert chosen(candidates, Capacity(total=0)) == []


def test_requests_homed_elsewhere_are_left_while_there_are_own_ones() -> None:
    """However old they are."""
    others = RankedCandidate(candidate=waiting("theirs", age=100), rank=1)
    assert chosen([others, *own(waiting("ours"))], Capacity(total=2)) == ["ours"]
    assert chosen([others], Capacity(total=2)) == ["theirs"]


def test_own_requests_that_cannot_run_do_not_prevent_stealing() -> None:
    """A worker whose own action is saturated helps the others."""
    others = RankedCandidate(candidate=waiting("theirs", action="echo"), rank=1)
    capacity = Capacity(total=2, limits=(at_most({"bulk": 0}),))
    assert chosen([others, *own(waiting("ours", action="bulk"))], capacity) == ["theirs"]


def test_lower_ranks_are_stolen_first() -> None:
    """So that two workers without requests of their own choose different ones."""
    candidates = [
        RankedCandidate(candidate=waiting(str(rank), age=rank), rank=rank) for rank in (3, 1, 2)
    ]
    assert chosen(candidates, Capacity(total=2)) == ["1", "2"]


def test_tenants_alternate() -> None:
    """A tenant with 1,000 requests delays another tenant's only request by one."""
    many = [waiting(f"big{age}", tenant="big", age=1000 + age) for age in range(1000)]
    small = waiting("small", tenant="small")
    assert chosen(own(*many, small), Capacity(total=3)) == ["big999", "small", "big998"]


def test_the_last_tenant_served_is_remembered_between_polls() -> None:
    """Even with a single slot each of two tenants gets every other request."""
    candidates = own(waiting("a", tenant="a", age=9), waiting("b", tenant="b"))
    assert chosen(candidates, Capacity(total=1), {"a": 5}) == ["b"]
    assert chosen(candidates, Capacity(total=1), {"a": 5, "b": 6}) == ["a"]


def test_previously_failed_claims_go_last_of_their_tenant() -> None:
    """A request that cannot be claimed does not delay those that can."""
    failed = RankedCandidate(candidate=waiting("failed", age=100), previously_failed=True)
    assert chosen([failed, *own(waiting("new"))], Capacity(total=1)) == ["new"]


def test_a_saturated_action_is_skipped() -> None:
    """Requests behind it are chosen, and no more of it than may run."""
    candidates = own(
        *(waiting(f"bulk{age}", action="bulk", age=100 + age) for age in range(50)),
        waiting("echo"),
    )
    capacity = Capacity(total=10, limits=(at_most({"bulk": 2}),))
    assert chosen(candidates, capacity) == ["bulk49", "bulk48", "echo"]


def test_a_limit_that_is_exceeded_already_allows_nothing() -> None:
    """For example when it was lowered below what runs."""
    capacity = Capacity(total=10, limits=(at_most({"echo": -3}),))
    assert chosen(own(waiting("x")), capacity) == []


def test_limits_of_the_same_name_are_counted_apart() -> None:
    """A tenant with the name of an action does not use up the action's limit."""

    def by_tenant(candidate: Candidate) -> tuple[str, float]:
        return candidate.tenant_id or "", 1

    candidates = own(waiting("1", tenant="echo", age=2), waiting("2", tenant="other", age=1))
    capacity = Capacity(total=10, limits=(by_tenant, at_most({"echo": 2})))
    assert chosen(candidates, capacity) == ["1", "2"]


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
def test_the_capacity_is_used_fully_and_not_exceeded(
    candidates: list[RankedCandidate], total: int, bulk: int
) -> None:
    """No limit is exceeded, and nothing is chosen twice. Of rank 0, or of all if that is empty,
    nothing that fits is left out.
    """
    capacity = Capacity(total=total, limits=(at_most({"bulk": bulk}),))
    chosen_candidates = choose(candidates, capacity, lambda _: 0)
    counts = Counter(candidate.action for candidate in chosen_candidates)
    assert (
        len({candidate.request_id for candidate in chosen_candidates})
        == len(chosen_candidates)
        <= total
    )
    assert counts["bulk"] <= max(bulk, 0)

    def fitting(offers: list[RankedCandidate]) -> int:
        offered = Counter(ranked.candidate.action for ranked in offers)
        return min(total, offered["echo"] + min(offered["bulk"], max(bulk, 0)))

    at_home = [ranked for ranked in candidates if ranked.rank == 0]
    assert len(chosen_candidates) == (fitting(at_home) or fitting(candidates))


def suspect(name: str, *, rank: int = 0, age: float = 0) -> RankedCandidate:
    return RankedCandidate(candidate=waiting(name, age=age), rank=rank, suspect=True)


def test_suspects_go_first_and_never_more_than_allowed() -> None:
    """The others wait for a later probation, also when there is room for them."""
    candidates = [suspect("2"), suspect("1", age=1), *own(waiting("older", age=9))]
    assert chosen(candidates, Capacity(total=9, suspects=1)) == ["1", "older"]
    assert chosen(candidates, Capacity(total=9)) == ["older"]


def test_suspects_go_by_rank_and_then_by_age() -> None:
    """A worker takes its own first, and those of other workers after them."""
    candidates = [
        suspect("theirs", rank=1, age=9),
        suspect("young"),
        suspect("old", age=5),
        suspect("others", rank=2, age=10),
    ]
    capacity = Capacity(total=9, suspects=9)
    assert chosen(candidates, capacity) == ["old", "young", "theirs", "others"]


def test_a_suspect_does_not_prevent_stealing() -> None:
    """A worker that runs only a suspect has no work of its own, so it helps the others."""
    theirs = RankedCandidate(candidate=waiting("theirs"), rank=1)
    saturated = own(waiting("ours", action="bulk"))
    capacity = Capacity(total=2, suspects=1, limits=(at_most({"bulk": 0}),))
    candidates = [suspect("suspect"), theirs, *saturated]
    assert chosen(candidates, capacity) == ["suspect", "theirs"]


def test_a_suspect_needs_a_slot_and_uses_limits() -> None:
    """A suspect is chosen like any other request within the capacity."""
    assert chosen([suspect("1"), suspect("2")], Capacity(total=1, suspects=2)) == ["1"]
    capacity = Capacity(total=9, suspects=9, limits=(at_most({"echo": 1}),))
    assert chosen([suspect("suspect"), *own(waiting("x"))], capacity) == ["suspect"]
    assert chosen([suspect("suspect")], Capacity(total=0, suspects=1)) == []


def test_every_limit_is_used_up_by_each_request() -> None:
    """The second limit counts what the first one lets through."""

    def any_tenant(_: Candidate) -> tuple[str, float]:
        return "tenants", math.inf

    candidates = own(*(waiting(str(age), age=age) for age in range(3)))
    capacity = Capacity(total=9, limits=(any_tenant, at_most({"echo": 1})))
    assert chosen(candidates, capacity) == ["2"]


def test_of_tenants_that_were_served_equally_the_oldest_request_goes_first() -> None:
    """Even when a request of another tenant was found first."""
    candidates = own(waiting("young", tenant="a"), waiting("old", tenant="b", age=9))
    assert chosen(candidates, Capacity(total=2)) == ["old", "young"]
