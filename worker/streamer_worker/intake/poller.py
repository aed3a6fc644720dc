"""Finds waiting requests, and claims as many as there are free slots."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass

from cachetools import LRUCache

from streamer_store import Candidate, RequestQueue
from streamer_store.rescues import is_suspect
from streamer_worker.events import ActionUnknown, Polled
from streamer_worker.fleet.membership import Membership
from streamer_worker.fleet.view import FleetView
from streamer_worker.intake.backlog import Backlog
from streamer_worker.intake.index_reader import MAX_PAGE_SIZE, IndexReader
from streamer_worker.intake.limits import Limits
from streamer_worker.intake.seen import SeenRequests
from streamer_worker.intake.selection import RankedCandidate, choose
from streamer_worker.intake.slots import Slots
from streamer_worker.retry import backoff
from streamer_worker.runtime import Runtime
from streamer_worker.settings import PollSettings

# Claims all candidates at once, and returns how many claims were won.
ClaimAll = Callable[[Iterable[Candidate]], Awaitable[int]]

# The size of the first page, in entries: 4 for each free slot and worker, from 100 to 1,000.
_PER_SLOT = 4
_MIN_PAGE_SIZE = 100
_MAX_TENANTS = 10_000
# The highest rank that makes the wait before stealing longer.
_MAX_RANK = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PollCounts:
    """What one poll found and claimed.

    `first_pass`: the cursor is still on its first pass over the index since the last claim.
    """

    candidates: int
    claimed: int
    first_pass: bool = False


class Poller:
    """Fills free slots with waiting requests.

    Each poll reads StatusIndex (see `IndexReader`), adds earlier requests of the backlog and
    deferred retries that are due, keeps those that this worker may claim now, and claims the
    ones that `choose` selects.
    """

    def __init__(
        self,
        *,
        requests: RequestQueue,
        claim_all: ClaimAll,
        seen_requests: SeenRequests,
        slots: Slots,
        limits: Limits,
        membership: Membership,
        settings: PollSettings,
        runtime: Runtime,
    ) -> None:
        self._index = IndexReader(
            requests=requests, clock=runtime.clock, max_pause=settings.max_interval
        )
        self._claim_all = claim_all
        self._seen_requests = seen_requests
        self._slots = slots
        self._limits = limits
        self._membership = membership
        self._settings = settings
        self._events = runtime.events
        self._clock = runtime.clock
        self._rng = runtime.rng
        self._backlog = Backlog()
        # For each tenant, the number of requests that had been chosen when it was last served.
        self._served: LRUCache[str | None, int] = LRUCache(_MAX_TENANTS)
        self._chosen_count = 0
        self._pauses: Iterator[float] | None = None

    async def step(self) -> PollCounts:
        """Wait for a free slot, read the index once, and claim the requests that fit.

        LEASE-5: claims nothing while this worker's heartbeats fail, because others may soon declare
        it dead and take its requests.
        """
        await self._slots.wait_free()
        if not self._membership.lease_is_safe:
            self._events.emit(Polled(outcome="skipped", seconds=0.0, candidates=0, claimed=0))
            return PollCounts(candidates=0, claimed=0)
        began = self._clock.steady()
        eligible = self._eligible(self._with_backlog(await self._read_due()))
        chosen = choose(eligible, self._limits.capacity(), self._last_served)
        self._remember(eligible)
        for candidate in chosen:
            self._chosen_count += 1
            self._served[candidate.tenant_id] = self._chosen_count
            self._backlog.discard(candidate)
        claimed = await self._claim_all(chosen)
        self._events.emit(
            Polled(
                outcome="claimed" if claimed else "empty",
                seconds=self._clock.steady() - began,
                candidates=len(eligible),
                claimed=claimed,
            )
        )
        first_pass = self._index.on_polled(claimed)
        return PollCounts(candidates=len(eligible), claimed=claimed, first_pass=first_pass)

    def pause(self, counts: PollCounts) -> float:
        """Return the seconds until the next poll.

        There are three cases:

        1. The poll claimed something: 0, and the backoff starts again.
        2. The poll claimed nothing, and the cursor is on its first pass since the last claim:
           the first pause of the backoff, because the cursor may still find work.
        3. The poll claimed nothing, and that pass is over: the next pause of the backoff.

        In cases 2 and 3 the pause ends when the next deferred retry is due, but lasts at least
        half of `min_interval`.
        """
        if counts.claimed:
            self._pauses = None
            return 0.0
        if self._pauses is None or counts.first_pass:
            self._pauses = backoff(
                self._settings.min_interval, self._settings.max_interval, self._rng
            )
        pause = next(self._pauses)
        next_due = self._seen_requests.next_due()
        if next_due is None:
            return pause
        return min(pause, max(next_due, self._settings.min_interval / 2))

    async def _read_due(self) -> list[Candidate]:
        """Return the due requests on the pages of this poll, and the deferred retries that are due.

        Each request is returned once. Retries that are not due yet are deferred.
        """
        workers = max(1, len(self._membership.view.live))
        page_size = min(MAX_PAGE_SIZE, max(_MIN_PAGE_SIZE, _PER_SLOT * workers * self._slots.free))
        entries: dict[str, Candidate] = {}
        for candidate in await self._index.read(page_size):
            entries.setdefault(candidate.request_id, candidate)
        now = self._clock.now()
        due = []
        for candidate in entries.values():
            if candidate.due(now):
                due.append(candidate)
            elif self._is_ours(candidate):
                self._seen_requests.defer(candidate)
        deferred = self._seen_requests.due(self._is_ours)
        return due + [candidate for candidate in deferred if candidate.request_id not in entries]

    def _is_ours(self, candidate: Candidate) -> bool:
        """Return whether this worker is the request's home."""
        action = candidate.action
        return (
            action is not None
            and self._limits.knows(action)
            and self._membership.view.is_home(candidate.request_id, action)
        )

    def _with_backlog(self, due: list[Candidate]) -> list[Candidate]:
        """Add requests of the backlog, first those of tenants that were served longest ago."""
        at_most = max(_MIN_PAGE_SIZE, _PER_SLOT * self._slots.free)
        heads = self._backlog.heads(at_most, self._last_served)
        ids = {candidate.request_id for candidate in due}
        return due + [candidate for candidate in heads if candidate.request_id not in ids]

    def _remember(self, eligible: list[RankedCandidate]) -> None:
        """Keep this worker's own requests for later polls, but no suspects.

        A suspect waits for the probation to be free, whatever its tenant.
        """
        for ranked in eligible:
            if ranked.rank == 0 and not ranked.suspect:
                self._backlog.add(ranked.candidate)

    def _eligible(self, candidates: list[Candidate]) -> list[RankedCandidate]:
        """Return the candidates that this worker may claim now, in random order.

        A candidate is not eligible in three cases:

        1. A claim of this Version was lost, or this worker may hold the request already.
        2. Its action is for other workers (see `_may_take`).
        3. Other workers come first. A worker waits `steal_delay` seconds for each of them, at
           most 3 times, from when it first saw the request. So workers that steal do not
           collide. For a suspect it waits once at most, because any free probation will do.
        """
        fleet = self._membership.view
        eligible = []
        for candidate in candidates:
            if self._seen_requests.is_lost(candidate) or self._slots.holds(candidate.request_id):
                self._backlog.discard(candidate)
                continue
            if not self._may_take(candidate, fleet):
                continue
            rank = fleet.rank(candidate.request_id, candidate.action)
            suspect = is_suspect(self._seen_requests.rescues_of(candidate))
            delays = min(rank, 1 if suspect else _MAX_RANK)
            if self._seen_requests.seen_for(candidate) >= delays * self._settings.steal_delay:
                eligible.append(
                    RankedCandidate(
                        candidate=candidate,
                        rank=rank,
                        previously_failed=self._seen_requests.has_failed(candidate),
                        suspect=suspect,
                    )
                )
        self._rng.shuffle(eligible)
        return eligible

    def _may_take(self, candidate: Candidate, fleet: FleetView) -> bool:
        """Return whether the candidate's action allows this worker to claim it.

        There are four cases:

        1. The action is missing, or the entry cannot be decoded: yes. The claim fails the request.
        2. This worker has a handler for the action: yes.
        3. Another live worker has one: no.
        4. No live worker has one: only after `unknown_action_timeout` seconds, counted from when
           the request was first seen and from when a live worker last listed the action. The
           dispatcher then fails the request.
        """
        action = candidate.action
        if action is None or candidate.broken:
            return True
        if self._limits.knows(action):
            return True
        seen_for = self._seen_requests.seen_for(candidate)
        if fleet.knows(action):
            self._seen_requests.forget_unknown_action(action)
            return False
        if self._seen_requests.note_unknown_action(action):
            self._events.emit(ActionUnknown(action=action))
        unlisted_for = self._clock.steady() - fleet.listed.get(action, -math.inf)
        return min(seen_for, unlisted_for) >= self._settings.unknown_action_timeout

    def _last_served(self, tenant: str | None) -> int:
        return self._served.get(tenant, 0)
