"""Judges which workers are alive, which one leads, and which one a request belongs to (pure).

LEASE-4: clocks of other hosts are never compared. A worker is alive as long as its Beat changes
within a lease, measured on our own steady clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from operator import attrgetter
from typing import Final

from cachetools import LRUCache

from streamer_store import FleetRows, WorkerRow
from streamer_store.values import Item

_BY_AGE = attrgetter("started_at", "worker_id")
_MAX_ACTIONS: Final = 10_000
_ROWS_PER_EXTRA_HEARTBEAT: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """The fleet as one worker saw it last.

    `worker_id`: the worker that saw it. `live`, `dead`: the rows of the workers, the live ones in
    order of their start. `silent`: for how many seconds it has seen no new heartbeat of each dead
    worker, by its id. `leads`: whether `worker_id` is the leader. `listed`: for each action,
    the time on that worker's steady clock when it last saw a live worker list the action.
    `controls`: the items of the rows that control the fleet, by id. `began`: when the read of the
    rows began, on that worker's steady clock.
    """

    worker_id: str
    live: tuple[WorkerRow, ...] = ()
    dead: tuple[WorkerRow, ...] = ()
    silent: Mapping[str, float] = field(default_factory=dict)
    leads: bool = False
    listed: Mapping[str, float] = field(default_factory=dict)
    controls: Mapping[str, Item] = field(default_factory=dict)
    began: float = 0.0

    def knows(self, action: str) -> bool:
        """Return whether a live worker lists the action."""
        return any(action in row.actions for row in self.live)

    def rank(self, request_id: str, action: str | None) -> int:
        """Return how many live workers come before `worker_id` for the request. 0: it is its home.

        This is rendezvous hashing: if a worker joins or leaves, only its own requests move.
        Workers that drain, or that do not list the action, are not counted.
        """
        return sum(1 for _ in self._preceding(request_id, action))

    def is_home(self, request_id: str, action: str | None) -> bool:
        """Return whether `rank` is 0. Faster than `rank`."""
        return next(self._preceding(request_id, action), None) is None

    def rank_among(self, workers: Iterable[WorkerRow], key: str) -> int:
        """Return how many of these workers, come before `worker_id` for the key."""
        own_weight = _weight(self.worker_id, key)
        others = (row.worker_id for row in workers if row.worker_id != self.worker_id)
        return sum(_weight(other, key) > own_weight for other in others)

    def _preceding(self, request_id: str, action: str | None) -> Iterator[WorkerRow]:
        own_weight = None
        for row in self.live:
            if row.worker_id != self.worker_id and not row.draining and action in row.actions:
                own_weight = own_weight or _weight(self.worker_id, request_id)
                if _weight(row.worker_id, request_id) > own_weight:
                    yield row


@dataclass(slots=True)
class _Watched:
    """A row, and the steady times since which its Beat and its Sweeps have not changed."""

    row: WorkerRow
    beat_since: float
    sweeps_since: float


class Fleet:
    """Compares successive reads of all rows, and derives a FleetView from them."""

    def __init__(self, *, worker_id: str, lease: float) -> None:
        self._worker_id = worker_id
        self._lease = lease
        self._watched: dict[str, _Watched] = {}
        self._last_read: float | None = None
        self._leader: str | None = None
        self._leader_since = 0.0
        self._failed_to_lead: set[str] = set()
        self._listed: LRUCache[str, float] = LRUCache(_MAX_ACTIONS)

    def restart_timers(self) -> None:
        """Restart the timers of all workers at the next read, so that none of them is dead."""
        self._last_read = None

    def observe(self, read: FleetRows, *, began: float, ended: float, max_gap: float) -> FleetView:
        """Return the view that follows from a read of all rows.

        `began`, `ended`: when the read began and ended, on the steady clock. `max_gap`: if the
        last read ended more than this many seconds before, all timers restart (LEASE-4). In such a
        gap a worker may have been alive although this one did not see it.
        """
        rows = read.workers
        if self._last_read is None or began - self._last_read > max_gap:
            self._watched.clear()
            self._leader_since = ended
        self._last_read = ended
        self._watched = {row.worker_id: self._watch(row, ended) for row in rows}
        dead = [row for row in rows if self._is_dead(row, began)]
        live = sorted((row for row in rows if row not in dead), key=_BY_AGE)
        self._listed.update((action, ended) for row in live for action in row.actions)
        return FleetView(
            worker_id=self._worker_id,
            live=tuple(live),
            dead=tuple(dead),
            silent={row.worker_id: self._silence(row, began) for row in dead},
            leads=self._choose_leader(live, began, ended) == self._worker_id,
            listed=dict(self._listed),
            controls=read.controls,
            began=began,
        )

    def _watch(self, row: WorkerRow, now: float) -> _Watched:
        """Return the row with its timers. A timer restarts if its counter has changed."""
        seen = self._watched.get(row.worker_id)
        if seen is None:
            return _Watched(row, now, now)
        return _Watched(
            row,
            seen.beat_since if seen.row.beat == row.beat else now,
            seen.sweeps_since if seen.row.sweeps == row.sweeps else now,
        )

    def _is_dead(self, row: WorkerRow, now: float) -> bool:
        """Return whether the row's Beat has not changed for a lease.

        The worker's own row is never dead here: its heartbeat judges that with more knowledge.
        """
        if row.worker_id == self._worker_id:
            return False
        return self._silence(row, now) >= self._lease

    def _silence(self, row: WorkerRow, now: float) -> float:
        """Return for how many seconds the row's Beat has not changed."""
        return now - self._watched[row.worker_id].beat_since

    def _choose_leader(self, live: list[WorkerRow], began: float, ended: float) -> str | None:
        """Return the id of the leader, or None if every live worker drains.

        Another worker may choose another leader at the same time: LEADER-1.

        The leader is the oldest live worker that does not drain, with three exceptions:

        1. The leader's Sweeps has not changed for a lease, counted from when it became the
           leader at the earliest: it has failed to lead, and the next oldest worker leads.
        2. A worker that has failed is passed over until its Sweeps changes. It is also
           forgiven when it drains or dies, and when all timers restart.
        3. Every candidate has failed: all are forgiven, and the oldest leads again.
        """
        candidates = [row.worker_id for row in live if not row.draining]
        self._failed_to_lead &= {
            worker_id for worker_id in candidates if not self._sweeps(worker_id, began)
        }
        if self._leader in candidates and not self._sweeps(self._leader, began):
            self._failed_to_lead.add(self._leader)
        if self._failed_to_lead.issuperset(candidates):
            self._failed_to_lead.clear()
        leader = next(
            (worker_id for worker_id in candidates if worker_id not in self._failed_to_lead), None
        )
        if leader != self._leader:
            self._leader, self._leader_since = leader, ended
        return leader

    def _sweeps(self, worker_id: str, now: float) -> bool:
        """Return whether the worker's Sweeps changed within the last lease.

        A leader also has a whole lease from when it became the leader.
        """
        since = self._watched[worker_id].sweeps_since
        if worker_id == self._leader:
            since = max(since, self._leader_since)
        return now - since < self._lease


def heartbeats_per_read(view: FleetView) -> int:
    """Return at which of its heartbeats a worker that does not lead reads all rows.

    All reads together cost the square of the number of workers, so large fleets read less often:
    32 rows or more at every second heartbeat, 64 at every third, and so on.
    """
    return 1 + (len(view.live) + len(view.dead)) // _ROWS_PER_EXTRA_HEARTBEAT


def _weight(worker_id: str, request_id: str) -> bytes:
    return blake2b(request_id.encode(), key=worker_id.encode()[:64], digest_size=8).digest()
