"""Fleets in virtual time with rate limits and limits of the whole fleet, and their checks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import anyio

from simulation.claims import ClaimEngine, ClaimWorld
from simulation.judge import Run
from streamer_store.rates import MICROSECONDS, Rate
from streamer_worker.rate_texts import parse_rate
from streamer_worker.settings import PresenceSettings

# Seconds that docs/scheduling.md adds to a time: for permits that are used late, at least the time
# between two of them, and for clocks.
_LATE: Final = 0.5
_CLOCKS: Final = 1.0
# After a late copy of a heartbeat the row may show too little, until the next one is written and
# the others have read it.
_AFTER_COPY: Final = 2 * PresenceSettings().heartbeat


class RateWorld(ClaimWorld):
    """A world whose action has rate limits. It checks when the claims of all runs were sent.

    The claim of a request that did not run gives its permits back.
    """

    rate: str | None = "5/s burst 3"
    rate_per_tenant: str | None = None

    @property
    def actions(self) -> Mapping[str, Mapping[str, Any]]:
        return {"job": {"rate_limit": self.rate, "rate_limit_per_tenant": self.rate_per_tenant}}

    def times(self, tenant: str | None = None) -> list[float]:
        """Return when the claims of a tenant's runs were sent, or of all runs, in order."""
        return sorted(
            self.sent[run.number]
            for run in self.runs
            if tenant in {None, self.requests[run.request_id].tenant_id}
        )

    def _judge(self) -> Iterable[str]:
        if self.rate is not None:
            yield from self._above(parse_rate(self.rate), "the action", self.times())
        if self.rate_per_tenant is not None:
            rate = parse_rate(self.rate_per_tenant)
            tenants = {request.tenant_id for request in self.requests.values()} - {None}
            for tenant in sorted(map(str, tenants)):
                yield from self._above(rate, f"tenant {tenant}", self.times(tenant))

    def _above(self, rate: Rate, name: str, times: list[float]) -> Iterator[str]:
        """Return the time in which the most are above the rate (RATE-1, RATE-2)."""
        gap = rate.cost(1) / MICROSECONDS
        extra = max(_LATE, gap) + (_CLOCKS if self.max_skew else 0.0)
        over, text = 0.0, ""
        for first, start in enumerate(times):
            for count, end in enumerate(times[first:], 1):
                most = rate.burst + (end - start + extra) / gap
                if count - most > over:
                    over = count - most
                    text = f"{name}: {count} from {start:.2f} to {end:.2f} s, {most:.2f} at most"
        if text:
            yield text


class FleetLimitWorld(ClaimWorld):
    """A world in which the fleet runs a limited number of the action's requests (FLEET-1).

    `most`: the most that ran at once. `excused`: runs that were too many after a late copy of a
    heartbeat, which docs/scheduling.md says.
    """

    limit = 3
    most = 0

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.excused: set[int] = set()

    @property
    def actions(self) -> Mapping[str, Mapping[str, Any]]:
        return {"job": {"max_concurrency": self.limit, "max_concurrency_scope": "fleet"}}

    def _record_start(self, run: Run) -> None:
        super()._record_start(run)
        running = [each for each in self.runs if self._counts(each)]
        self.most = max(self.most, len(running))
        if len(running) > self.limit and self._counts(run):
            if self._is_after_copy():
                self.excused.add(run.number)
            else:
                by = ", ".join(f"{each.request_id} on {each.worker}" for each in running)
                self.violations.append(f"at {run.began:.2f} s run {len(running)}: {by}")

    def _counts(self, run: Run) -> bool:
        """Return whether the run goes on, on a worker that was not declared dead."""
        is_lost = run.torn or run.worker in self.journal.declared_dead
        return run.ended is None and not is_lost and run.number not in self.excused

    def _is_after_copy(self) -> bool:
        now = anyio.current_time()
        engines = (engine for engine in self.engines if isinstance(engine, ClaimEngine))
        copies = (at for engine in engines for at in engine.late_heartbeats)
        return any(now - at <= _AFTER_COPY for at in copies)
