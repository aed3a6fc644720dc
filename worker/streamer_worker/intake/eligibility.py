"""Decides which of the waiting requests this worker may claim."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial

from streamer_store import Candidate
from streamer_store.rescues import is_suspect
from streamer_worker.events import ActionUnknown
from streamer_worker.fleet.membership import Membership
from streamer_worker.fleet.view import FleetView
from streamer_worker.intake.backlog import Backlog
from streamer_worker.intake.limits import Limits
from streamer_worker.intake.pause_gate import PauseGate
from streamer_worker.intake.rotation import RankedCandidate
from streamer_worker.intake.seen import SeenRequests
from streamer_worker.intake.selection import Selection, new_turns
from streamer_worker.intake.slots import Slots
from streamer_worker.intake.urgency import Urgency, urgency_of
from streamer_worker.runtime import Runtime
from streamer_worker.settings import PollSettings

# For how many workers at most a worker waits before it steals a request.
_MAX_DELAYS = 3
# The share of `steal_delay` that it waits for each of them if the request is a high one.
_HIGH_SHARE = 0.25


class Eligibility:
    """Selects the requests that this worker may claim, as it sees the fleet now.

    It adds requests of the backlog, which it saw earlier.
    """

    def __init__(
        self,
        *,
        seen_requests: SeenRequests,
        slots: Slots,
        limits: Limits,
        gate: PauseGate,
        membership: Membership,
        settings: PollSettings,
        runtime: Runtime,
    ) -> None:
        self._seen_requests = seen_requests
        self._slots = slots
        self._limits = limits
        self._gate = gate
        self._selected_under = gate.version
        self._membership = membership
        self._settings = settings
        self._events = runtime.events
        self._clock = runtime.clock
        self._rng = runtime.rng
        self._backlog = Backlog()
        self._turns = new_turns()

    @property
    def is_current(self) -> bool:
        """Whether the same requests are paused as at the last selection."""
        return self._selected_under == self._gate.version

    def is_home(self, candidate: Candidate) -> bool:
        """Return whether this worker is the request's home, and may claim it once it is due.

        A paused request is not remembered until it is due: many of them would displace others.
        """
        action = candidate.action
        return (
            action is not None
            and self._gate.may_run(candidate)
            and self._limits.knows(action)
            and self._membership.view.is_home(candidate.request_id, action)
        )

    def nothing(self) -> Selection:
        """Return an empty selection."""
        return Selection(capacity=self._limits, turns=self._turns)

    def select(self, due: list[Candidate], *, backlog: int) -> Selection:
        """Return a selection of those of the due requests that this worker may claim now.

        backlog: about how many requests of the backlog are added, first those of the tenants that
            were served longest ago.

        A candidate is not selected in four cases:

        1. This Version was claimed or cannot be, or this worker may hold the request already.
        2. It is paused (see `PauseGate`). It is neither kept nor failed.
        3. Its action is for other workers (see `_may_take`).
        4. Other workers come first (see `_with_ranks`).

        Own requests that are no suspects are kept in the backlog. A suspect waits for the
        probation to be free, whatever its tenant.
        """
        fleet, now = self._membership.view, self._clock.now()
        self._selected_under = self._gate.version
        patience = timedelta(seconds=self._settings.low_priority_patience)
        own: list[RankedCandidate] = []
        suspects: list[RankedCandidate] = []
        high: list[RankedCandidate] = []
        others: list[RankedCandidate] = []
        for candidate in self._with_backlog(due, backlog):
            if self._seen_requests.is_lost(candidate) or self._slots.holds(candidate.request_id):
                self._backlog.discard(candidate)
                continue
            if not self._gate.may_run(candidate):  # PAUSE-1
                self._backlog.discard(candidate)
                continue
            if not self._may_take(candidate, fleet):
                continue
            ranked = RankedCandidate(
                candidate=candidate,
                urgency=urgency_of(candidate, now=now, patience=patience),
                previously_failed=self._seen_requests.has_failed(candidate)
                or self._gate.has_probed(candidate),
            )
            if is_suspect(self._seen_requests.rescues_of(candidate)):
                suspects.append(ranked)
            elif fleet.is_home(candidate.request_id, candidate.action):
                own.append(ranked)
                self._backlog.add(candidate)
            else:
                self._seen_requests.seen_for(candidate)  # its time begins
                (high if ranked.urgency is Urgency.HIGH else others).append(ranked)
        return Selection(
            own=own,
            high=list(self._with_ranks(high, max_delays=_MAX_DELAYS)),
            suspects=list(self._with_ranks(suspects, max_delays=1)),
            others=others,
            rank_others=partial(self._with_ranks, max_delays=_MAX_DELAYS),
            capacity=self._limits,
            turns=self._turns,
        )

    def on_taken(self, candidate: Candidate) -> None:
        """Remove the request from the backlog: it is claimed now."""
        self._backlog.discard(candidate)

    def _with_backlog(self, due: list[Candidate], at_most: int) -> list[Candidate]:
        heads = self._backlog.heads(at_most, self._turns[Urgency.NORMAL].last_served)
        ids = {candidate.request_id for candidate in due}
        return due + [candidate for candidate in heads if candidate.request_id not in ids]

    def _with_ranks(
        self, candidates: list[RankedCandidate], *, max_delays: int
    ) -> Iterator[RankedCandidate]:
        """Yield the candidates that are not left to other workers, with their ranks.

        A worker waits `steal_delay` seconds for each worker that comes before it, at most
        `max_delays` times, from when it first saw the request. So workers that steal do not
        collide. A high request is left to them for a quarter of it. For a suspect it waits once
        at most, because any free probation will do.
        The order of candidates of the same age is random.
        """
        fleet = self._membership.view
        self._rng.shuffle(candidates)
        for ranked in candidates:
            candidate = ranked.candidate
            share = _HIGH_SHARE if ranked.urgency is Urgency.HIGH else 1
            steps = self._seen_requests.seen_for(candidate) / (share * self._settings.steal_delay)
            if steps < 1 and not fleet.is_home(candidate.request_id, candidate.action):
                continue  # most are left to others, and ranks take time in large fleets
            rank = fleet.rank(candidate.request_id, candidate.action)
            if steps >= min(rank, max_delays):
                yield replace(ranked, rank=rank)

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
