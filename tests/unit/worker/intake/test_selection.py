"""Which of the waiting requests a worker claims next."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from streamer_store import Candidate, RequestStatus
from streamer_worker.intake.rotation import Limit, RankedCandidate
from streamer_worker.intake.selection import Selection, new_turns
from streamer_worker.intake.urgency import Urgency
from support import START

ECHO: Limit = ("action", "echo")
BULK: Limit = ("action", "bulk")


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


def suspect(name: str, *, rank: int = 0, age: float = 0) -> RankedCandidate:
    return RankedCandidate(candidate=waiting(name, age=age), rank=rank)


class Limited:
    """A capacity: how many more requests of each action or tenant may run, and how many suspects.

    left: by action or tenant, for example `{("action", "bulk"): 2}`.
    """

    def __init__(self, left: dict[Limit, int] | None = None, *, suspects: int = 0) -> None:
        self._left = left or {}
        self.suspects = suspects

    def limits_of(self, candidate: Candidate) -> tuple[Limit, ...]:
        limits = ("action", candidate.action or ""), ("tenant", candidate.tenant_id or "")
        return tuple(limit for limit in limits if limit in self._left)

    def left(self, limit: Limit) -> float:
        return self._left[limit]

    def suspect_fits(self) -> bool:
        return self.suspects > 0

    def use(self, candidate: Candidate, *, times: int = 1) -> None:
        for limit in self.limits_of(candidate):
            self._left[limit] -= times


def take_all(selection: Selection, capacity: Limited, total: int) -> list[Candidate]:
    """Take requests as the poller does, and let each use its limits."""
    taken: list[Candidate] = []
    while len(taken) < total and (candidate := selection.take()) is not None:
        capacity.use(candidate)
        capacity.suspects -= candidate.request_id.startswith("s")
        taken.append(candidate)
    return taken


def chosen(
    ranked: list[RankedCandidate],
    total: int,
    capacity: Limited | None = None,
    *,
    suspects: list[RankedCandidate] | None = None,
    served: tuple[str, ...] = (),
) -> list[str]:
    capacity = capacity or Limited()
    turns = new_turns()
    for tenant in served:
        turns[Urgency.NORMAL].serve(tenant)
    selection = Selection(
        own=[each for each in ranked if each.rank == 0],
        suspects=suspects or (),
        others=[each for each in ranked if each.rank],
        capacity=capacity,
        turns=turns,
    )
    return [candidate.request_id for candidate in take_all(selection, capacity, total)]


def test_the_oldest_goes_first() -> None:
    """Requests of unknown age come first: they may have waited longest."""
    candidates = own(
        waiting("young"), waiting("old", age=9), waiting("?", age=None), waiting("mid", age=5)
    )
    assert chosen(candidates, 4) == ["?", "old", "mid", "young"]


def test_no_more_are_chosen_than_the_capacity_allows() -> None:
    """None is chosen if there is no capacity."""
    candidates = own(*(waiting(str(age), age=age) for age in range(5)))
    assert chosen(candidates, 2) == ["4", "3"]
    assert chosen(candidates, 0) == []


def test_requests_homed_elsewhere_are_left_while_there_are_own_ones() -> None:
    """However old they are."""
    others = RankedCandidate(candidate=waiting("theirs", age=100), rank=1)
    assert chosen([others, *own(waiting("ours"))], 2) == ["ours"]
    assert chosen([others], 2) == ["theirs"]


def test_own_requests_that_cannot_run_do_not_prevent_stealing() -> None:
    """A worker whose own action is saturated helps the others."""
    others = RankedCandidate(candidate=waiting("theirs", action="echo"), rank=1)
    saturated = own(waiting("ours", action="bulk"))
    assert chosen([others, *saturated], 2, Limited({BULK: 0})) == ["theirs"]


def test_lower_ranks_are_stolen_first() -> None:
    """So that two workers without requests of their own choose different ones."""
    candidates = [
        RankedCandidate(candidate=waiting(str(rank), age=rank), rank=rank) for rank in (3, 1, 2)
    ]
    assert chosen(candidates, 2) == ["1", "2"]


def test_tenants_alternate() -> None:
    """A tenant with 1,000 requests delays another tenant's only request by one."""
    many = [waiting(f"big{age}", tenant="big", age=1000 + age) for age in range(1000)]
    small = waiting("small", tenant="small")
    assert chosen(own(*many, small), 3) == ["big999", "small", "big998"]


def test_the_last_tenant_served_is_remembered_between_polls() -> None:
    """Even with a single slot each of two tenants gets every other request."""
    candidates = own(waiting("a", tenant="a", age=9), waiting("b", tenant="b"))
    assert chosen(candidates, 1, served=("a",)) == ["b"]
    assert chosen(candidates, 1, served=("a", "b")) == ["a"]


def test_previously_failed_claims_go_last_of_their_tenant() -> None:
    """A request that cannot be claimed does not delay those that can."""
    failed = RankedCandidate(candidate=waiting("failed", age=100), previously_failed=True)
    assert chosen([failed, *own(waiting("new"))], 1) == ["new"]


def test_a_saturated_action_is_skipped() -> None:
    """Requests behind it are chosen, and no more of it than may run."""
    candidates = own(
        *(waiting(f"bulk{age}", action="bulk", age=100 + age) for age in range(50)),
        waiting("echo"),
    )
    assert chosen(candidates, 10, Limited({BULK: 2})) == ["bulk49", "bulk48", "echo"]


def test_a_limit_that_is_exceeded_already_allows_nothing() -> None:
    """For example when it was lowered below what runs."""
    assert chosen(own(waiting("x")), 10, Limited({ECHO: -3})) == []


def test_limits_of_the_same_name_are_counted_apart() -> None:
    """A tenant with the name of an action does not use up the action's limit."""
    candidates = own(waiting("1", tenant="echo", age=2), waiting("2", tenant="other", age=1))
    capacity = Limited({("tenant", "echo"): 1, ECHO: 2})
    assert chosen(candidates, 10, capacity) == ["1", "2"]


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
    capacity = Limited({BULK: bulk})
    selection = Selection(
        own=[each for each in candidates if each.rank == 0],
        others=[each for each in candidates if each.rank],
        capacity=capacity,
        turns=new_turns(),
    )
    chosen_candidates = take_all(selection, capacity, total)
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


def test_suspects_go_first_and_never_more_than_allowed() -> None:
    """The others wait for a later probation, also when there is room for them."""
    suspects = [suspect("s2"), suspect("s1", age=1)]
    older = own(waiting("older", age=9))
    assert chosen(older, 9, Limited(suspects=1), suspects=suspects) == ["s1", "older"]
    assert chosen(older, 9, suspects=suspects) == ["older"]


def test_suspects_go_by_rank_and_then_by_age() -> None:
    """A worker takes its own first, and those of other workers after them."""
    suspects = [
        suspect("s theirs", rank=1, age=9),
        suspect("s young"),
        suspect("s old", age=5),
        suspect("s others", rank=2, age=10),
    ]
    taken = chosen([], 9, Limited(suspects=9), suspects=suspects)
    assert taken == ["s old", "s young", "s theirs", "s others"]


def test_a_suspect_does_not_prevent_stealing() -> None:
    """A worker that runs only a suspect has no work of its own, so it helps the others."""
    theirs = RankedCandidate(candidate=waiting("theirs"), rank=1)
    candidates = [theirs, *own(waiting("ours", action="bulk"))]
    capacity = Limited({BULK: 0}, suspects=1)
    assert chosen(candidates, 2, capacity, suspects=[suspect("s")]) == ["s", "theirs"]


def test_a_suspect_uses_limits() -> None:
    """A suspect is chosen like any other request within the capacity."""
    capacity = Limited({ECHO: 1}, suspects=9)
    assert chosen(own(waiting("x")), 9, capacity, suspects=[suspect("s")]) == ["s"]
    capacity = Limited({ECHO: 0}, suspects=9)
    assert chosen([], 9, capacity, suspects=[suspect("s")]) == []


def test_every_limit_is_used_up_by_each_request() -> None:
    """The second limit counts what the first one lets through."""
    candidates = own(*(waiting(str(age), tenant="t", age=age) for age in range(3)))
    assert chosen(candidates, 9, Limited({("tenant", "t"): 2, ECHO: 1})) == ["2"]


def test_a_limit_of_one_action_does_not_hold_back_the_tenants_others() -> None:
    """The tenant keeps its turn."""
    candidates = own(
        waiting("bulk", tenant="a", action="bulk", age=9),
        waiting("a", tenant="a", age=1),
        waiting("b", tenant="b"),
    )
    assert chosen(candidates, 1, Limited({BULK: 0})) == ["a"]


def selection_of(capacity: Limited, *candidates: Candidate) -> Selection:
    return Selection(own=own(*candidates), capacity=capacity, turns=new_turns())


def test_a_request_that_met_a_limit_fits_once_the_limit_has_capacity_again() -> None:
    """Whichever of its limits was met. `fits` says so without taking it."""
    for limit in (BULK, ("tenant", "t")):
        capacity = Limited({BULK: 1, ("tenant", "t"): 1} | {limit: 0})
        candidate = waiting("x", tenant="t", action="bulk")
        selection = selection_of(capacity, candidate)
        assert (selection.take(), selection.fits(), len(selection)) == (None, False, 1)
        capacity.use(candidate, times=-1)
        assert selection.fits()
        assert selection.take() == candidate
        assert (selection.take(), selection.fits(), len(selection)) == (None, False, 0)


def test_a_tenant_that_waited_has_one_turn_at_a_time() -> None:
    """Also if it met several limits, which have capacity again one after the other."""
    capacity = Limited({BULK: 0, ECHO: 0})
    bulk = waiting("bulk", tenant="a", action="bulk")
    selection = selection_of(capacity, bulk, waiting("echo", tenant="a", age=9))
    assert selection.take() is None
    capacity.use(bulk, times=-1)
    assert take_all(selection, capacity, 9) == [bulk]
    capacity.use(waiting("any"), times=-1)
    assert [candidate.request_id for candidate in take_all(selection, capacity, 9)] == ["echo"]
    assert selection.is_used_up


def test_of_tenants_that_were_served_equally_the_oldest_request_goes_first() -> None:
    """Even when a request of another tenant was found first."""
    candidates = own(waiting("young", tenant="a"), waiting("old", tenant="b", age=9))
    assert chosen(candidates, 2) == ["old", "young"]
