"""Finds waiting requests, and claims as many as there are free slots."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import anyio

from streamer_store import Candidate, Priority, RequestQueue
from streamer_worker.events import Polled
from streamer_worker.fleet.membership import Membership
from streamer_worker.fleet.view import FleetView
from streamer_worker.intake.claimer import Claimer
from streamer_worker.intake.eligibility import Eligibility
from streamer_worker.intake.index_reader import MAX_PAGE_SIZE, IndexReader
from streamer_worker.intake.poll_claims import PollClaims
from streamer_worker.intake.seen import SeenRequests
from streamer_worker.intake.slots import Assignment, ClaimCall, Slot, Slots
from streamer_worker.intake.urgency import Urgency
from streamer_worker.retry import backoff
from streamer_worker.runtime import Runtime
from streamer_worker.settings import PollSettings

# The size of the first page, in entries: 4 for each free slot and worker, from 100 to 1,000.
_PER_SLOT = 4
_MIN_PAGE_SIZE = 100
# How long the requests of one read are claimed from, in seconds. It is shorter in two cases:
# 1. The cursor has not reached the end of the index yet. Tenants that are further on are not served
#    before that.
# 2. A claim was lost. Other workers claim the same requests, because they have none of their own.
#    The age doubles with each read after which no claim was lost.
_PAGE_AGE = 1.0
_MIN_PAGE_AGE = 0.1
# How often the poller looks for what goes before the requests that it has read, in seconds.
_LOOK_INTERVAL = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class PollCounts:
    """What one poll found and claimed.

    `bounded`: limits of all that was claimed hold back more requests of the same kind.
    `first_pass`: the cursor is still on its first pass over the index since the last claim.
    `more`: the worker read more requests that fit, or that it may steal.
    """

    candidates: int
    claimed: int
    bounded: bool = False
    first_pass: bool = False
    more: bool = False


class Poller:
    """Fills free slots with waiting requests.

    The indexes are read (see `IndexReader`) if none of the requests that were read before fits, or
    if they were read more than a second ago (see `_PAGE_AGE`). Between these reads the poller
    looks for high requests, and for normal ones if only low ones are left. Earlier requests of the
    backlog and deferred retries that are due are added. Of those that this worker may claim (see
    `Eligibility`), as many are claimed as slots are free. While their claims are on their way,
    each slot that is freed is filled again.

    start: starts a task that awaits the call it gets, and then runs the claim that this returned.
        The task has to begin even if the poller is cancelled.
    """

    def __init__(
        self,
        *,
        requests: RequestQueue,
        claimer: Claimer,
        start: Callable[[ClaimCall], object],
        seen_requests: SeenRequests,
        eligibility: Eligibility,
        slots: Slots,
        membership: Membership,
        settings: PollSettings,
        runtime: Runtime,
    ) -> None:
        self._index = IndexReader(
            requests=requests, clock=runtime.clock, max_pause=settings.max_interval
        )
        self._claimer = claimer
        self._start = start
        self._seen_requests = seen_requests
        self._eligibility = eligibility
        self._slots = slots
        self._membership = membership
        self._settings = settings
        self._events = runtime.events
        self._clock = runtime.clock
        self._rng = runtime.rng
        self._selection = self._eligibility.nothing()
        # The due requests that were read last, by id.
        self._page: dict[str, Candidate] = {}
        self._read_at = self._looked_at = -math.inf
        self._page_age = _PAGE_AGE
        self._view: FleetView | None = None
        # Set when a slot is freed after the last choice.
        self._freed = slots.freed.next
        self._pauses: Iterator[float] | None = None

    async def step(self) -> PollCounts:
        """Wait for a free slot, and claim the requests that fit until their claims have ended.

        The index is read once at most. LEASE-5: claims nothing while this worker's heartbeats
        fail, because others may soon declare it dead and take its requests.
        """
        self._slots.report()
        await self._slots.wait_free()
        if not self._membership.lease_is_safe:
            self._freed = self._slots.freed.next
            self._events.emit(Polled(outcome="skipped", seconds=0.0, candidates=0, claimed=0))
            return PollCounts(candidates=0, claimed=0)
        began = self._clock.steady()
        if not (self._is_current() and self._selection.fits()):
            await self._read()
        claims = await self._claim_all()
        self._events.emit(
            Polled(
                outcome="claimed" if claims.won else "empty",
                seconds=self._clock.steady() - began,
                candidates=claims.candidates,
                claimed=len(claims.won),
            )
        )
        bounded = bool(claims.won) and all(map(self._selection.is_bounded, claims.won))
        return PollCounts(
            candidates=claims.candidates,
            claimed=len(claims.won),
            bounded=bounded,
            first_pass=self._index.on_polled(len(claims.won), bounded=bounded),
            more=claims.left_others or self._selection.fits(),
        )

    def pause(self, counts: PollCounts) -> float:
        """Return the seconds until the next poll.

        There are five cases:

        1. The poll claimed something, and there may be more to claim: 0, and the backoff starts
           again.
        2. The poll claimed all that fits of the whole index: the first pause of the backoff. The
           next poll that claims nothing starts the backoff again.
        3. The poll claimed nothing, or only what a limit lets through one by one, and the cursor
           is on its first pass since the last other claim: the first pause of the backoff, because
           the cursor may still find work.
        4. The poll claimed nothing, and that pass is over: the next pause of the backoff.
        5. The poll claimed all that fits, and other requests wait for a limit: the same as 4, so
           that a limit with many small steps does not make the worker read the index at each.

        In cases 2 to 5 the pause ends when the next deferred retry is due, but lasts at least
        half of `min_interval`.
        """
        if counts.claimed and (counts.more or (counts.first_pass and not counts.bounded)):
            self._pauses = None
            return 0.0
        claimed_all = counts.claimed and self._selection.is_used_up
        if self._pauses is None or counts.first_pass or claimed_all:
            self._pauses = backoff(
                self._settings.min_interval, self._settings.max_interval, self._rng
            )
        pause = next(self._pauses)
        if claimed_all:
            self._pauses = None
        next_due = self._seen_requests.next_due()
        if next_due is None:
            return pause
        return min(pause, max(next_due, self._settings.min_interval / 2))

    async def sleep(self, seconds: float) -> None:
        """Wait this many seconds, or until a freed slot has room for a request that was read."""
        with anyio.move_on_after(seconds):
            while True:
                await self._freed.wait()
                if self._selection.fits():
                    return
                self._freed = self._slots.freed.next

    def _is_current(self) -> bool:
        """Return whether the requests of the last read may still be claimed from."""
        max_age = self._page_age if self._index.has_read_all else _MIN_PAGE_AGE
        is_young = self._clock.steady() - self._read_at <= max_age
        is_same_fleet = self._view is self._membership.view
        return is_young and is_same_fleet and self._eligibility.is_current

    async def _read(self) -> None:
        """Read the indexes once, and replace the selection."""
        page_size = self._page_size()
        entries = await self._index.read(page_size)
        self._page = {}
        self._add_to_page(entries)
        self._add_deferred(entries)
        self._select()
        if not self._selection.fits(Urgency.NORMAL):
            low = await self._index.read_low(page_size)
            if self._add_to_page(low):
                self._select()
        self._read_at = self._looked_at = self._clock.steady()
        self._view = self._membership.view
        self._page_age = min(_PAGE_AGE, 2 * self._page_age)

    async def _look(self) -> None:
        """Add the requests that have come since the last look, and go before those that are left.

        A high one of another worker is added when its time has come (see `Eligibility`).
        """
        now = self._clock.steady()
        if now - self._looked_at < _LOOK_INTERVAL:
            return
        self._looked_at = now
        entries = await self._index.look(self._page_size(), normal=self._selection.has_low_only)
        has_new = self._add_to_page(entries)
        if has_new or any(map(self._is_high, entries)):
            self._select()

    def _is_high(self, candidate: Candidate) -> bool:
        """Return whether it is a high request that this worker has not claimed."""
        is_taken = self._seen_requests.is_lost(candidate) or self._slots.holds(candidate.request_id)
        return candidate.priority is Priority.HIGH and not is_taken

    def _select(self) -> None:
        backlog = max(_MIN_PAGE_SIZE, _PER_SLOT * self._slots.free)
        self._selection = self._eligibility.select(list(self._page.values()), backlog=backlog)

    async def _claim_all(self) -> PollClaims:
        """Claim what fits, again whenever a slot is freed, until the claims have ended."""
        claims = PollClaims()
        try:
            while self._is_current() and self._membership.lease_is_safe:
                await self._look()
                self._freed = self._slots.freed.next
                for candidate, slot in self._taken():
                    claims.begin()
                    self._start(partial(self._claim, candidate, slot, claims))
                self._slots.report()
                claims.candidates = max(claims.candidates, claims.pending + len(self._selection))
                claims.left_others = self._selection.drop_others()
                if not claims.pending or self._selection.is_used_up:
                    break
                await claims.wait_ended_or(self._freed)
                if not claims.pending:
                    break
        finally:
            # The claims are shielded too, and have a time limit each.
            with anyio.CancelScope(shield=True):
                await claims.wait_ended()
            claims.raise_errors()
        return claims

    def _taken(self) -> Iterator[tuple[Candidate, Slot]]:
        """Take requests that fit, as many as slots are free, and yield each with its slot."""
        while self._slots.free > 0:
            candidate = self._selection.take()
            if candidate is None:
                return
            self._eligibility.on_taken(candidate)
            yield candidate, self._claimer.reserve(candidate)

    async def _claim(
        self, candidate: Candidate, slot: Slot, claims: PollClaims
    ) -> Assignment | None:
        """Claim the candidate. An error that was not expected is raised by the poll."""
        assignment = None
        try:
            assignment = await self._claimer.claim(candidate, slot)
            if assignment is not None:
                claims.won.append(candidate)
            elif self._seen_requests.is_lost(candidate):
                self._page_age = _MIN_PAGE_AGE / 2
                self._read_at = -math.inf
        except Exception as error:  # noqa: BLE001  raised in this task it would end the worker
            claims.errors.append(error)
        finally:
            claims.end()
        return assignment

    def _page_size(self) -> int:
        workers = max(1, len(self._membership.view.live))
        return min(MAX_PAGE_SIZE, max(_MIN_PAGE_SIZE, _PER_SLOT * workers * self._slots.free))

    def _add_to_page(self, entries: Iterable[Candidate]) -> bool:
        """Add the entries that are due to the page, and return whether any of them is new.

        Those that are not due yet are deferred if they are homed here. An entry of DueIndex goes
        before one of StatusIndex, which does not show the priority.
        """
        now = self._clock.now()
        has_new = False
        for candidate in entries:
            if candidate.due(now):
                known = self._page.get(candidate.request_id)
                if known is None or (candidate.priority is not None and candidate != known):
                    self._page[candidate.request_id] = candidate
                    has_new = True
            elif self._eligibility.is_home(candidate):
                self._seen_requests.defer(candidate)
        return has_new

    def _add_deferred(self, entries: Iterable[Candidate]) -> None:
        """Add the deferred requests that are due, except those of which an entry was read."""
        known = {candidate.request_id for candidate in entries}
        for candidate in self._seen_requests.due(self._eligibility.is_home):
            if candidate.request_id not in known:
                self._page.setdefault(candidate.request_id, candidate)
