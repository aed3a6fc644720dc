"""Which workers are alive, which one leads, and which one a request belongs to."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from streamer_store import FleetRows, WorkerRow
from streamer_store.codec import worker
from streamer_worker.fleet.view import Fleet, FleetView
from support import START

LEASE = 16.0
HEARTBEAT = 4.0
MAX_GAP = 2 * HEARTBEAT


def row(name: str, *, age: float = 0, beat: int = 1, **fields: object) -> WorkerRow:
    worker_row = WorkerRow(
        worker_id=name,
        started_at=START - timedelta(seconds=age),
        host="h",
        pid=1,
        release="1",
        actions=frozenset({"echo"}),
        concurrency=4,
        beat=beat,
    )
    return replace(worker_row, **fields)  # type: ignore[arg-type]


class Observer:
    """A fleet as `me` sees it, on a clock that is moved by hand."""

    def __init__(self) -> None:
        self.fleet = Fleet(worker_id="me", lease=LEASE)
        self.now = 100.0

    def read(self, *rows: WorkerRow, lasted: float = 0.0) -> FleetView:
        began = self.now
        self.now += lasted
        read = FleetRows(workers=list(rows))
        return self.fleet.observe(read, began=began, ended=self.now, max_gap=MAX_GAP)


def names(rows: tuple[WorkerRow, ...]) -> list[str]:
    return [row.worker_id for row in rows]


def watch_for(observer: Observer, seconds: float, *rows: WorkerRow) -> FleetView:
    """Read at each heartbeat. `me` has heartbeats and sweeps, and the given rows do not change."""
    view = FleetView(worker_id="me")
    until = observer.now + seconds
    count = 1
    while observer.now < until:
        observer.now += HEARTBEAT
        count += 1
        view = observer.read(row("me", beat=count, sweeps=count), *rows)
    return view


def test_a_row_that_does_not_change_for_a_lease_is_dead() -> None:
    """Not before, whatever its own times say. Proves LEASE-4."""
    observer = Observer()
    silent = row("other", age=-1e6)
    observer.read(row("me"), silent)
    assert names(watch_for(observer, LEASE - HEARTBEAT, silent).dead) == []
    view = watch_for(observer, HEARTBEAT, silent)
    assert names(view.dead) == ["other"]
    assert view.silent == {"other": LEASE}


def test_each_heartbeat_restarts_its_timer() -> None:
    """A worker with slow heartbeats is alive."""
    observer = Observer()
    for beat in range(20):
        view = watch_for(observer, LEASE - HEARTBEAT, row("other", beat=beat))
        assert names(view.dead) == []


def test_a_gap_between_reads_restarts_all_timers() -> None:
    """So an outage declares no worker dead. Proves LEASE-4."""
    observer = Observer()
    silent = row("other")
    watch_for(observer, LEASE - HEARTBEAT, silent)
    observer.now += 3600
    assert names(observer.read(row("me"), silent).dead) == []
    assert names(watch_for(observer, LEASE - HEARTBEAT, silent).dead) == []
    assert names(watch_for(observer, HEARTBEAT, silent).dead) == ["other"]


def test_a_slow_read_does_not_shorten_the_lease() -> None:
    """The rows may be from any moment between its beginning and its end. Proves LEASE-4."""
    observer = Observer()
    silent = row("other")
    observer.read(row("me"), silent, lasted=6)
    seen = observer.now
    observer.now = seen + 6
    assert names(observer.read(row("me"), silent, lasted=6).dead) == []
    observer.now = seen + LEASE - 1
    assert names(observer.read(row("me"), silent, lasted=6).dead) == []


def test_the_workers_own_row_is_never_dead() -> None:
    """Its heartbeat judges that with more knowledge."""
    observer = Observer()
    for _ in range(20):
        observer.now += HEARTBEAT
        view = observer.read(row("me"))
    assert names(view.live) == ["me"]


def test_the_oldest_leads() -> None:
    """By its start, then by its id, without a vote."""
    observer = Observer()
    assert not observer.read(row("me"), row("older", age=1)).leads
    assert observer.read(row("me"), row("younger", age=-1)).leads
    assert not observer.read(row("me"), row("a-twin")).leads


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
    """Its worker knows another start time than we do, so both or neither would lead. It is alive
    all the same.
    """
    odd = worker({"WorkerID": {"S": name}, "StartedAt": started_at, "Actions": {"SS": ["echo"]}})
    view = Observer().read(odd, row("me", age=-1e9))
    assert view.leads
    assert set(names(view.live)) == {"me", name}
    shares = Counter(view.rank(f"r{number}", "echo") for number in range(100))
    assert min(shares[0], shares[1]) > 10


def test_a_worker_that_drains_does_not_lead() -> None:
    """It will end soon."""
    observer = Observer()
    assert observer.read(row("me"), row("older", age=1, draining=True)).leads
    assert not observer.read(row("me", draining=True), row("younger", age=-1)).leads


def test_nobody_leads_a_fleet_that_drains() -> None:
    """Nothing is rescued until a new worker starts."""
    assert not Observer().read(row("me", draining=True)).leads


def test_a_leader_that_does_not_sweep_is_passed_over() -> None:
    """Although it has heartbeats. It leads again once it sweeps."""
    observer = Observer()
    lazy = [row("lazy", age=9, beat=beat) for beat in range(100)]
    taken_over = None
    for beat in range(8):
        view = watch_for(observer, HEARTBEAT, lazy[beat])
        if view.leads and taken_over is None:
            taken_over = beat * HEARTBEAT
    assert view.leads
    assert taken_over is not None
    assert LEASE - HEARTBEAT <= taken_over <= LEASE + HEARTBEAT
    recovered = replace(lazy[50], sweeps=1)
    assert not watch_for(observer, HEARTBEAT, recovered).leads


def test_when_every_worker_failed_to_lead_the_oldest_leads() -> None:
    """Changing the leader again and again would not help."""
    observer = Observer()
    for beat in range(50):
        observer.now += HEARTBEAT
        view = observer.read(row("me", beat=beat), row("younger", age=-1, beat=beat))
    assert any(
        observer.read(row("me", beat=beat), row("younger", age=-1, beat=beat)).leads
        for beat in range(100, 110)
    )
    assert names(view.dead) == []


def test_it_is_known_when_an_action_was_last_listed() -> None:
    """By a live worker, on our own steady clock. An action that was never listed is absent."""
    observer = Observer()
    both = (row("me"), row("other", actions=frozenset({"report"})))
    began = observer.now
    assert observer.read(*both).listed["report"] == began
    observer.now += HEARTBEAT
    view = observer.read(row("me", beat=1))
    assert view.listed["report"] == began
    assert "nothing" not in view.listed


def test_an_action_is_known_while_a_live_worker_lists_it() -> None:
    """Dead workers do not count."""
    view = FleetView(
        worker_id="me",
        live=(row("me"), row("new", actions=frozenset({"report"}))),
        dead=(row("old", actions=frozenset({"legacy"})),),
    )
    assert view.knows("report")
    assert not view.knows("legacy")


def homes(view: FleetView, requests: list[str]) -> dict[str, str]:
    return {
        request: next(
            worker_id
            for worker_id in names(view.live)
            if replace(view, worker_id=worker_id).rank(request, "echo") == 0
        )
        for request in requests
    }


def test_homes_are_spread_and_move_only_with_their_worker() -> None:
    """Rendezvous hashing: each request has one home, and workers have about equally many."""
    requests = [f"r-{number}" for number in range(3000)]
    five = FleetView(worker_id="me", live=tuple(row(f"w{number}") for number in range(5)))
    four = FleetView(worker_id="me", live=five.live[:4])
    before, after = homes(five, requests), homes(four, requests)
    assert all(500 < count < 700 for count in Counter(before.values()).values())
    moved = {request for request in requests if before[request] != after[request]}
    assert moved == {request for request in requests if before[request] == "w4"}


def test_every_worker_has_a_rank_of_its_own() -> None:
    """So workers that steal wait for different times."""
    view = FleetView(worker_id="me", live=tuple(row(f"w{number}") for number in range(5)))
    ranks = [replace(view, worker_id=worker_id).rank("r", "echo") for worker_id in names(view.live)]
    assert sorted(ranks) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("fields", [{"draining": True}, {"actions": frozenset({"report"})}])
def test_workers_that_cannot_run_a_request_have_no_rank(fields: dict[str, Any]) -> None:
    """A worker that drains, or does not list the action, does not raise the rank of others."""
    unable = tuple(row(f"w{number}", **fields) for number in range(20))
    view = FleetView(worker_id="me", live=(row("me"), *unable))
    assert {view.rank(f"r{number}", "echo") for number in range(50)} == {0}


def test_a_worker_that_is_not_in_its_own_view_has_a_rank() -> None:
    """Before the first read it is the home of all requests."""
    assert FleetView(worker_id="me").rank("r", "echo") == 0
