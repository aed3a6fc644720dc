"""The periodic work of a worker beside its requests and rescues."""

from __future__ import annotations

from collections.abc import Iterator

from streamer_store import Stores
from streamer_worker.fleet.membership import Membership
from streamer_worker.fleet.pauses import KnownPauses
from streamer_worker.intake.seen import SeenRequests
from streamer_worker.maintenance.lane_sweep import LaneSweep
from streamer_worker.maintenance.pause_sweep import PauseSweep
from streamer_worker.maintenance.queue_depth import DepthGauge
from streamer_worker.maintenance.reaper import Reaper
from streamer_worker.maintenance.unhandled import UnhandledGauge
from streamer_worker.runtime import Runtime
from streamer_worker.settings import Settings


def maintenance_loops(
    *,
    stores: Stores,
    seen_requests: SeenRequests,
    known_pauses: KnownPauses,
    membership: Membership,
    settings: Settings,
    runtime: Runtime,
) -> Iterator[tuple[str, Reaper | DepthGauge | LaneSweep | PauseSweep | UnhandledGauge]]:
    """Yield the name and the service of each loop. Most do their work on the leader alone."""
    if settings.reaper.enabled:
        yield (
            "reap",
            Reaper(
                connections=stores.connections,
                settings=settings.reaper,
                membership=membership,
                runtime=runtime,
            ),
        )
    yield (
        "depth",
        DepthGauge(
            requests=stores.requests,
            settings=settings.depth,
            membership=membership,
            runtime=runtime,
        ),
    )
    yield "lanes", LaneSweep(requests=stores.requests, membership=membership, runtime=runtime)
    yield "pauses", PauseSweep(known=known_pauses, pauses=stores.pauses, membership=membership)
    yield (
        "unhandled",
        UnhandledGauge(
            requests=stores.requests,
            seen_requests=seen_requests,
            membership=membership,
            settings=settings.depth,
            runtime=runtime,
        ),
    )
