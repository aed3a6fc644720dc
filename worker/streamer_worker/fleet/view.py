"""Who is alive, who leads, and whose a waiting request is (pure).

No clock of another host is ever compared: a worker is judged by whether its Beat changes while
we look, on our own steady clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from operator import attrgetter
from typing import Final

from cachetools import LRUCache

from streamer_store import WorkerRow

_ORDER = attrgetter("started_at", "worker_id")
_ACTIONS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """The fleet as one worker saw it last. `leads`: whether that worker does the sweeps;
    `listed`: when, on its steady clock, it last saw an action listed by a live worker.
    """

    live: tuple[WorkerRow, ...] = ()
    dead: tuple[WorkerRow, ...] = ()
    leads: bool = False
    listed: Mapping[str, float] = field(default_factory=dict)

    def knows(self, action: str) -> bool:
        """Whether a live worker lists the action."""
        return any(action in row.actions for row in self.live)

    def rank(self, worker_id: str, request_id: str, action: str | None) -> int:
        """Return the worker's place among those that may run the request: 0 is its home.

        Rendezvous hashing: when a worker comes or goes, only its own requests move.
        """
        return sum(1 for _ in self._before(worker_id, request_id, action))

    def is_home(self, worker_id: str, request_id: str, action: str | None) -> bool:
        """Whether `rank` is 0, which is sooner known."""
        return next(self._before(worker_id, request_id, action), None) is None

    def _before(self, worker_id: str, request_id: str, action: str | None) -> Iterator[WorkerRow]:
        mine = _weight(worker_id, request_id)
        for row in self.live:
            rival = row.worker_id != worker_id and not row.draining and action in row.actions
            if rival and _weight(row.worker_id, request_id) > mine:
                yield row


@dataclass(slots=True)
class _Watched:
    row: WorkerRow
    beat_since: float
    sweeps_since: float


class Fleet:
    """What one worker learns by looking at all rows again and again."""

    def __init__(self, *, worker_id: str, lease: float) -> None:
        self._worker_id = worker_id
        self._lease = lease
        self._watched: dict[str, _Watched] = {}
        self._looked: float | None = None
        self._leader: str | None = None
        self._leader_since = 0.0
        self._failed_to_lead: set[str] = set()
        self._listed: LRUCache[str, float] = LRUCache(_ACTIONS)

    def restart(self) -> None:
        """Start all stopwatches again with the next read."""
        self._looked = None

    def observe(
        self, rows: Iterable[WorkerRow], *, began: float, ended: float, patience: float
    ) -> FleetView:
        """Take in a read of all rows that lasted from `began` to `ended`, on a steady clock.

        After a gap of more than `patience` seconds since the last read all stopwatches start
        again: a time in which nobody could look proves nothing.
        """
        rows = list(rows)
        if self._looked is None or began - self._looked > patience:
            self._watched.clear()
            self._leader_since = ended
        self._looked = ended
        self._watched = {row.worker_id: self._watch(row, ended) for row in rows}
        dead = [row for row in rows if self._stands_still(row, began)]
        live = sorted((row for row in rows if row not in dead), key=_ORDER)
        self._listed.update((action, ended) for row in live for action in row.actions)
        return FleetView(
            live=tuple(live),
            dead=tuple(dead),
            leads=self._choose_leader(live, began, ended),
            listed=dict(self._listed),
        )

    def _watch(self, row: WorkerRow, now: float) -> _Watched:
        seen = self._watched.get(row.worker_id)
        if seen is None:
            return _Watched(row, now, now)
        return _Watched(
            row,
            seen.beat_since if seen.row.beat == row.beat else now,
            seen.sweeps_since if seen.row.sweeps == row.sweeps else now,
        )

    def _stands_still(self, row: WorkerRow, now: float) -> bool:
        # Our own row is judged by our own beats, which know more.
        if row.worker_id == self._worker_id:
            return False
        return now - self._watched[row.worker_id].beat_since >= self._lease

    def _choose_leader(self, live: list[WorkerRow], began: float, ended: float) -> bool:
        able = [row.worker_id for row in live if not row.draining]
        self._failed_to_lead &= {each for each in able if not self._sweeps(each, began)}
        if self._leader in able and not self._sweeps(self._leader, began):
            self._failed_to_lead.add(self._leader)
        if self._failed_to_lead.issuperset(able):
            self._failed_to_lead.clear()
        leader = next((each for each in able if each not in self._failed_to_lead), None)
        if leader != self._leader:
            self._leader, self._leader_since = leader, ended
        return leader == self._worker_id

    def _sweeps(self, worker_id: str, now: float) -> bool:
        """Whether it swept, or was not yet asked to for as long as that may take."""
        since = self._watched[worker_id].sweeps_since
        if worker_id == self._leader:
            since = max(since, self._leader_since)
        return now - since < self._lease


def _weight(worker_id: str, request_id: str) -> bytes:
    return blake2b(request_id.encode(), key=worker_id.encode()[:64], digest_size=8).digest()
