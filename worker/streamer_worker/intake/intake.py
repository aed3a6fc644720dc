"""The parts that decide which requests a worker claims, put together."""

from __future__ import annotations

from collections.abc import Callable

from streamer_store import Stores
from streamer_store.rate_limits import PermitTable
from streamer_worker.fleet.membership import Membership
from streamer_worker.fleet.pauses import KnownPauses
from streamer_worker.fleet.server_clock import ServerClock
from streamer_worker.handlers.registry import Registry
from streamer_worker.intake.claimer import Claimer
from streamer_worker.intake.eligibility import Eligibility
from streamer_worker.intake.fleet_limits import FleetLimits
from streamer_worker.intake.limits import Limits
from streamer_worker.intake.pause_gate import PauseGate
from streamer_worker.intake.poller import Poller
from streamer_worker.intake.probation import Probation
from streamer_worker.intake.rate_limits import RateLimits
from streamer_worker.intake.seen import SeenRequests
from streamer_worker.intake.slots import ClaimCall, Slots
from streamer_worker.push.announcer import Announcer
from streamer_worker.runtime import Runtime
from streamer_worker.settings import Settings


class Intake:
    """What one incarnation claims with.

    `lost_threads` returns how many threads still run handlers of earlier incarnations.
    """

    def __init__(
        self,
        *,
        worker_id: str,
        stores: Stores,
        registry: Registry,
        known_pauses: KnownPauses,
        server_clock: ServerClock,
        announcer: Announcer,
        lost_threads: Callable[[], int],
        settings: Settings,
        runtime: Runtime,
    ) -> None:
        self._requests = stores.requests
        self._settings = settings
        self._runtime = runtime
        clock = runtime.clock
        self.slots = Slots(settings.concurrency, events=runtime.events)
        self.seen_requests = SeenRequests(clock=clock)
        self.fleet_limits = FleetLimits(
            registry=registry,
            slots=self.slots,
            heartbeat=settings.presence.heartbeat,
            clock=clock,
        )
        self.gate = PauseGate(
            worker_id=worker_id,
            known=known_pauses,
            pauses=stores.pauses,
            registry=registry,
            runtime=runtime,
        )
        self.rate_limits = RateLimits(
            registry=registry,
            permits=PermitTable(engine=stores.engine),
            freed=self.slots.freed,
            server_clock=server_clock,
            runtime=runtime,
        )
        probation = Probation(
            free_from=clock.steady() + settings.rescue.min_worker_age, clock=clock
        )
        self._limits = Limits(
            registry=registry,
            slots=self.slots,
            probation=probation,
            gate=self.gate,
            rate_limits=self.rate_limits,
            fleet_limits=self.fleet_limits,
            settings=settings,
            lost_threads=lost_threads,
        )
        self.claimer = Claimer(
            worker_id=worker_id,
            requests=stores.requests,
            slots=self.slots,
            seen_requests=self.seen_requests,
            probation=probation,
            gate=self.gate,
            rate_limits=self.rate_limits,
            announcer=announcer,
            runtime=runtime,
        )

    def poller(self, membership: Membership, start: Callable[[ClaimCall], object]) -> Poller:
        """Return the poller. `start`: see `Poller`."""
        eligibility = Eligibility(
            seen_requests=self.seen_requests,
            slots=self.slots,
            limits=self._limits,
            gate=self.gate,
            membership=membership,
            settings=self._settings.poll,
            runtime=self._runtime,
        )
        return Poller(
            requests=self._requests,
            claimer=self.claimer,
            start=start,
            seen_requests=self.seen_requests,
            eligibility=eligibility,
            slots=self.slots,
            membership=membership,
            settings=self._settings.poll,
            runtime=self._runtime,
        )
