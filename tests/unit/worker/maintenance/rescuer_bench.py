"""The rescuer of one worker, and its slots."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from streamer_store import Claim, RequestStatus, WorkerRow
from streamer_worker.fleet.pauses import KnownPauses
from streamer_worker.fleet.view import FleetView
from streamer_worker.intake.claimer import Claimer
from streamer_worker.intake.probation import Probation
from streamer_worker.intake.seen import SeenRequests
from streamer_worker.intake.slots import Slots
from streamer_worker.maintenance.rescuer import Rescuer
from streamer_worker.push.announcer import Announcer
from streamer_worker.settings import PresenceSettings, RescueSettings, Settings
from support import START, ManualClock
from unit.worker.benches import pause_gate, rate_limits
from unit.worker.harness import World

LEASE = 16.0
FOLLOWER = FleetView(worker_id="me")
LEADER = FleetView(worker_id="me", leads=True)
RETRYING, PROCESSING = RequestStatus.RETRYING, RequestStatus.PROCESSING


class Bench:
    """The rescuer of `me`, and its slots."""

    def __init__(self, world: World, **settings: Any) -> None:
        self.world = world
        self.time = ManualClock()
        self.slots = Slots(10, events=world.events)
        announcer = Announcer(push=world.pushed.append, clock=world.clock)
        self.claimer = Claimer(
            worker_id="me",
            requests=world.stores.requests,
            slots=self.slots,
            seen_requests=SeenRequests(clock=world.clock),
            probation=Probation(free_from=45, clock=self.time),
            gate=pause_gate(world, KnownPauses(runtime=world.runtime)),
            rate_limits=rate_limits(world, slots=self.slots),
            announcer=announcer,
            runtime=world.runtime,
        )
        self.rescuer = Rescuer(
            worker_id="me",
            stores=world.stores,
            claimer=self.claimer,
            announcer=announcer,
            slots=self.slots,
            settings=Settings(
                presence=PresenceSettings(lease=LEASE, **settings),
                rescue=RescueSettings(max_rescues=5),
            ),
            runtime=world.runtime if settings else replace(world.runtime, clock=self.time),
        )

    async def claimed_by(self, worker_id: str | None, **fields: Any) -> Claim:
        """Return the claim of a request with attempts left, by that worker."""
        request = await self.world.enqueue(**{"max_retries": 3} | fields)
        candidate = await self.world.candidate(request)
        return await self.world.stores.requests.claim(candidate, worker_id=worker_id)

    async def row(self, worker_id: str) -> WorkerRow:
        row = WorkerRow(worker_id=worker_id, started_at=START)
        await self.world.stores.workers.register(row)
        return row

    async def rows(self) -> list[str]:
        return [row.worker_id for row in await self.world.stores.workers.list()]

    async def status(self, claim: Claim) -> RequestStatus:
        return (await self.world.get(claim)).status

    async def step(self, view: FleetView = LEADER) -> int:
        """Sweep once, and return how many requests were rescued."""
        return (await self.rescuer.step(view)).rescued


@pytest.fixture
def bench(world: World) -> Bench:
    return Bench(world)
