"""Who is alive, who leads, and whose a waiting request is."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from streamer_store import WorkerRow
from streamer_store.codec import worker
from streamer_worker.fleet.view import Fleet, FleetView
from support import START

LEASE = 16.0
BEAT = 4.0
MAX_GAP = 2 * BEAT


def row(name: str, *, age: float = 0, beat: int = 1, **fields: object) -> WorkerRow:
    made = WorkerRow(
        worker_id=name,
        started_at=START - timedelta(seconds=age),
        host="h",
        pid=1,
        release="1",
        actions=frozenset({"echo"}),
        concurrency=4,
        beat=beat,
    )
    return replace(made, **fields)  # type: ignore[arg-type]


class Observer:
    """A fleet as `me` sees it, on a clock that is moved by hand."""

    def __init__(self) -> None:
        self.fleet = Fleet(worker_id="me", lease=LEASE)
        self.now = 100.0

    def look(self, *rows: WorkerRow, lasted: float = 0.0) -> FleetView:
        began = self.now
        self.now += lasted
        return self.fleet.observe(rows, began=began, ended=self.now, max_gap=MAX_GAP)


def names(rows: tuple[WorkerRow, ...]) -> list[str]:
    return [each.worker_id for each in rows]


def watch_for(observer: Observer, seconds: float, *rows: WorkerRow) -> FleetView:
    """Look each heartbeat; `me` beats and sweeps, the rows given stay as they are."""
    view = FleetView()
    until = observer.now + seconds
    count = 1
    while observer.now < until:
        observer.now += BEAT
        count += 1
        view = observer.look(row("me", beat=count, sweeps=count), *rows)
    return view


def test_a_row_that_stands_still_for_the_lease_is_dead() -> None:
    """Not before; and whatever its own times say."""
    observer = Observer()
    silent = row("other", age=-1e6)
    observer.look(row("me"), silent)
    assert names(watch_for(observer, LEASE - BEAT, silent).dead) == []
    assert names(watch_for(observer, BEAT, silent).dead) == ["other"]


def test_each_beat_starts_its_stopwatch_again() -> None:
    """A worker that beats slowly is alive."""
    observer = Observer()
    for beat in range(20):
        view = watch_for(observer, LEASE - BEAT, row("other", beat=beat))
        assert names(view.dead) == []


def test_a_time_in_which_nobody_looked_proves_nothing() -> None:
    """After a gap all begin anew: an outage declares nobody dead."""
    observer = Observer()
    silent = row("other")
    watch_for(observer, LEASE - BEAT, silent)
    observer.now += 3600
    assert names(observer.look(row("me"), silent).dead) == []
    assert names(watch_for(observer, LEASE - BEAT, silent).dead) == []
    assert names(watch_for(observer, BEAT, silent).dead) == ["other"]


def test_a_look_that_takes_long_does_not_shorten_the_lease() -> None:
    """What it saw may be as old as its beginning, and as young as its end."""
    observer = Observer()
    silent = row("other")
    observer.look(row("me"), silent, lasted=6)
    seen = observer.now
    observer.now = seen + 6
    assert names(observer.look(row("me"), silent, lasted=6).dead) == []
    observer.now = seen + LEASE - 1
    assert names(observer.look(row("me"), silent, lasted=6).dead) == []


def test_our_own_row_is_never_dead_to_us() -> None:
    """Our own beats tell more than our look at them."""
    observer = Observer()
    for _ in range(20):
        observer.now += BEAT
        view = observer.look(row("me"))
    assert names(view.live) == ["me"]


def test_the_oldest_leads() -> None:
    """By its start, then by its id; nobody votes."""
    observer = Observer()
    assert not observer.look(row("me"), row("older", age=1)).leads
    assert observer.look(row("me"), row("younger", age=-1)).leads
    assert not observer.look(row("me"), row("a-twin")).leads


@pytest.mark.parametrize(
    "started_at",
    [
        {"S": "the other day"},
        {"S": ""},
        {"S": "0001-01-01T00:00:00Z"},  # Go's zero time means absent
        {"N": "0"},
        {"NULL": True},
        {"M": {}},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["a-odd", "z-odd"])
def test_a_row_whose_start_cannot_be_read_does_not_lead(
    name: str, started_at: dict[str, Any]
) -> None:
    """Its worker reads another time there than we do: both of us would lead, or neither. It is
    alive, and has its share of the requests.
    """
    odd = worker({"WorkerID": {"S": name}, "StartedAt": started_at, "Actions": {"SS": ["echo"]}})
    view = Observer().look(odd, row("me", age=-1e9))
    assert view.leads
    assert set(names(view.live)) == {"me", name}
    shares = Counter(view.rank("me", f"r{number}", "echo") for number in range(100))
    assert min(shares[0], shares[1]) > 10


def test_one_that_drains_does_not_lead() -> None:
    """It goes soon."""
    observer = Observer()
    assert observer.look(row("me"), row("older", age=1, draining=True)).leads
    assert not observer.look(row("me", draining=True), row("younger", age=-1)).leads


def test_nobody_leads_a_fleet_that_drains() -> None:
    """Then nothing is rescued: others will come."""
    assert not Observer().look(row("me", draining=True)).leads


def test_a_leader_that_beats_and_does_not_sweep_is_passed_over() -> None:
    """For as long as it does not; it leads again once it sweeps."""
    observer = Observer()
    lazy = [row("lazy", age=9, beat=beat) for beat in range(100)]
    taken_over = None
    for beat in range(8):
        view = watch_for(observer, BEAT, lazy[beat])
        if view.leads and taken_over is None:
            taken_over = beat * BEAT
    assert view.leads
    assert taken_over is not None
    assert LEASE - BEAT <= taken_over <= LEASE + BEAT
    recovered = replace(lazy[50], sweeps=1)
    assert not watch_for(observer, BEAT, recovered).leads


def test_when_no_leader_sweeps_the_oldest_stays() -> None:
    """Passing the lead on for ever would help nobody."""
    observer = Observer()
    for beat in range(50):
        observer.now += BEAT
        view = observer.look(row("me", beat=beat), row("younger", age=-1, beat=beat))
    assert any(
        observer.look(row("me", beat=beat), row("younger", age=-1, beat=beat)).leads
        for beat in range(100, 110)
    )
    assert names(view.dead) == []


def test_it_is_known_when_an_action_was_last_listed() -> None:
    """By a live worker, on our own clock; what nobody ever listed is not there."""
    observer = Observer()
    both = (row("me"), row("other", actions=frozenset({"report"})))
    began = observer.now
    assert observer.look(*both).listed["report"] == began
    observer.now += BEAT
    view = observer.look(row("me", beat=1))
    assert view.listed["report"] == began
    assert "nothing" not in view.listed


def test_an_action_is_known_while_a_live_worker_lists_it() -> None:
    """The dead take nothing any more."""
    view = FleetView(
        live=(row("me"), row("new", actions=frozenset({"report"}))),
        dead=(row("old", actions=frozenset({"legacy"})),),
    )
    assert view.knows("report")
    assert not view.knows("legacy")


def homes(view: FleetView, requests: list[str]) -> dict[str, str]:
    return {
        request: next(each for each in names(view.live) if view.rank(each, request, "echo") == 0)
        for request in requests
    }


def test_homes_are_spread_and_move_only_with_their_worker() -> None:
    """Rendezvous hashing: every request has one home, about as many for each worker."""
    requests = [f"r-{number}" for number in range(3000)]
    five = FleetView(live=tuple(row(f"w{number}") for number in range(5)))
    four = FleetView(live=five.live[:4])
    before, after = homes(five, requests), homes(four, requests)
    assert all(500 < count < 700 for count in Counter(before.values()).values())
    moved = {each for each in requests if before[each] != after[each]}
    assert moved == {each for each in requests if before[each] == "w4"}


def test_every_worker_has_a_rank_of_its_own() -> None:
    """So that those next in line wait differently long."""
    view = FleetView(live=tuple(row(f"w{number}") for number in range(5)))
    ranks = [view.rank(each, "r", "echo") for each in names(view.live)]
    assert sorted(ranks) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("fields", [{"draining": True}, {"actions": frozenset({"report"})}])
def test_those_that_cannot_run_it_are_not_in_line(fields: dict[str, Any]) -> None:
    """One that drains, or does not list the action, keeps nothing from others."""
    unable = tuple(row(f"w{number}", **fields) for number in range(20))
    view = FleetView(live=(row("me"), *unable))
    assert {view.rank("me", f"r{number}", "echo") for number in range(50)} == {0}


def test_a_worker_that_is_not_in_its_own_view_has_a_rank_all_the_same() -> None:
    """Before its first look it takes everything for its own."""
    assert FleetView().rank("me", "r", "echo") == 0
