"""How many more requests a worker may run."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

from streamer_store import Candidate, RequestStatus, memory_stores
from streamer_store.memory import MemoryEngine
from streamer_store.rate_limits import PermitTable
from streamer_worker import Context, SyncContext, handler
from streamer_worker.events import Events
from streamer_worker.fleet.pauses import KnownPauses
from streamer_worker.fleet.server_clock import ServerClock
from streamer_worker.handlers.registry import registry
from streamer_worker.intake.fleet_limits import FleetLimits
from streamer_worker.intake.limits import Limits
from streamer_worker.intake.pause_gate import PauseGate
from streamer_worker.intake.probation import Probation
from streamer_worker.intake.rate_limits import RateLimits
from streamer_worker.intake.rotation import RankedCandidate
from streamer_worker.intake.selection import Selection, new_turns
from streamer_worker.intake.slots import Slots
from streamer_worker.runtime import Runtime
from streamer_worker.settings import HandlerSettings, Settings
from support import START, ManualClock


@handler("free")
async def free(_payload: dict[str, Any], _ctx: Context) -> None:
    """A handler without a limit of its own."""


@handler("scarce", max_concurrency=2)
async def scarce(_payload: dict[str, Any], _ctx: Context) -> None:
    """A handler that runs at most twice at once."""


@handler("thread")
def thread(_payload: dict[str, Any], _ctx: SyncContext) -> None:
    """A handler that runs in a thread."""


@handler("scarce_thread", max_concurrency=1)
def scarce_thread(_payload: dict[str, Any], _ctx: SyncContext) -> None:
    """A handler that runs in a thread, once at a time."""


class Bench:
    """The limits of a worker with ten slots and three threads."""

    def __init__(self, *, lost_threads: int = 0, **settings: Any) -> None:
        runtime = Runtime(clock=ManualClock(), rng=random.Random(1), events=Events())
        handlers = registry([free, scarce, thread, scarce_thread])
        self.slots = Slots(10, events=Events())
        self.limits = Limits(
            registry=handlers,
            slots=self.slots,
            probation=Probation(free_from=45, clock=ManualClock()),
            gate=PauseGate(
                worker_id="me",
                known=KnownPauses(runtime=runtime),
                pauses=memory_stores().pauses,
                registry=handlers,
                runtime=runtime,
            ),
            fleet_limits=FleetLimits(
                registry={}, slots=self.slots, heartbeat=4.0, clock=ManualClock()
            ),
            rate_limits=RateLimits(
                registry={},
                permits=PermitTable(engine=MemoryEngine()),
                freed=self.slots.freed,
                server_clock=ServerClock(ManualClock()),
                runtime=runtime,
            ),
            settings=Settings(handler=HandlerSettings(threads=3), **settings),
            lost_threads=lambda: lost_threads,
        )

    def takes(self, *actions: str | None, tenant: str | None = None) -> list[str | None]:
        """Return what is chosen of one waiting request for each of `actions`, oldest first."""
        candidates = [
            RankedCandidate(
                candidate=Candidate(
                    request_id=f"r{number}",
                    status=RequestStatus.PENDING,
                    action=action,
                    tenant_id=tenant,
                    created_at=START + timedelta(seconds=number),
                )
            )
            for number, action in enumerate(actions)
        ]
        selection = Selection(own=candidates, capacity=self.limits, turns=new_turns())
        taken = []
        while self.slots.free and (candidate := selection.take()) is not None:
            slot = self.slots.take("chosen", action=candidate.action, tenant_id=tenant)
            taken.append((candidate.action, slot))
        for _, slot in taken:
            self.slots.release(slot)
        return [action for action, _ in taken]

    def count(self, *actions: str | None, tenant: str | None = None) -> int:
        return len(self.takes(*actions, tenant=tenant))


def test_a_worker_knows_the_actions_of_its_handlers() -> None:
    """Only their exact names."""
    limits = Bench().limits
    assert limits.knows("free")
    assert limits.knows("thread")
    assert not limits.knows("Free")
    assert not limits.knows("")


def test_no_more_run_than_there_are_slots() -> None:
    """Every running request is counted, whatever its action."""
    bench = Bench()
    assert bench.count(*["free"] * 20) == 10
    for number in range(7):
        bench.slots.take(f"running-{number}", action=f"action-{number}", tenant_id="t")
    assert bench.count(*["free"] * 20) == 3


def test_a_full_worker_claims_nothing() -> None:
    """Until a slot is released."""
    bench = Bench()
    taken = [bench.slots.take(f"running-{number}") for number in range(10)]
    assert bench.count("free") == 0
    bench.slots.release(taken[0])
    assert bench.count("free", "free") == 1


def test_an_action_runs_as_often_as_its_handler_says() -> None:
    """Other actions are chosen instead."""
    assert Bench().takes(*["scarce"] * 5, "free") == ["scarce", "scarce", "free"]


def test_running_requests_of_an_action_count() -> None:
    """Until the slot is released: a stuck thread keeps it longer than its request is held."""
    bench = Bench()
    first = bench.slots.take("running-1", action="scarce")
    assert bench.count("scarce", "scarce") == 1
    second = bench.slots.take("running-2", action="scarce")
    assert bench.count("scarce") == 0
    bench.slots.settle(first)
    assert bench.count("scarce") == 0
    bench.slots.release(first)
    bench.slots.release(second)
    assert bench.count(*["scarce"] * 5) == 2


def test_actions_do_not_count_for_each_other() -> None:
    """Each action has its own limit."""
    bench = Bench()
    for number in range(2):
        bench.slots.take(f"running-{number}", action="free")
    assert bench.count("scarce", "scarce", "scarce") == 2


def test_handlers_in_threads_share_one_limit() -> None:
    """A request that would have to wait for a thread is left to other workers."""
    bench = Bench()
    assert bench.count(*["thread"] * 5) == 3
    assert bench.takes(*["scarce_thread", "thread"] * 3, "free") == [
        "scarce_thread",
        "thread",
        "thread",
        "free",
    ]
    bench.slots.take("running-1", action="scarce_thread")
    bench.slots.take("running-2", action="thread")
    assert bench.takes(*["thread", "scarce_thread"] * 3) == ["thread"]


def test_other_handlers_use_no_threads() -> None:
    """Neither while they run nor when they are chosen."""
    bench = Bench()
    for number in range(4):
        bench.slots.take(f"running-{number}", action="free")
    assert bench.takes("free", "free", *["thread"] * 4) == ["free", "free", *["thread"] * 3]


def test_a_tenant_runs_as_often_as_is_set() -> None:
    """Over all actions, running requests included."""
    bench = Bench(tenant_concurrency=3)
    assert bench.count(*["free", "thread"] * 5, tenant="t") == 3
    bench.slots.take("running-1", action="thread", tenant_id="t")
    bench.slots.take("running-2", action="gone", tenant_id="t")
    assert bench.count(*["free"] * 5, tenant="t") == 1
    assert bench.count(*["free"] * 5, tenant="u") == 3


def test_requests_of_no_tenant_are_not_limited_as_one() -> None:
    """They may belong to anyone."""
    bench = Bench(tenant_concurrency=1)
    bench.slots.take("running-1", action="free")
    assert bench.count(*["free"] * 5) == 5


def test_tenants_have_no_limit_by_default() -> None:
    """One tenant alone may use the whole worker."""
    bench = Bench()
    bench.slots.take("running-1", action="free", tenant_id="t")
    assert bench.count(*["free"] * 20, tenant="t") == 9


def test_unknown_actions_are_limited_by_slots_alone() -> None:
    """The poller decides whether they may be claimed at all."""
    bench = Bench(tenant_concurrency=20)
    assert bench.count(*["unknown", None] * 10) == 10


def test_threads_that_another_incarnation_lost_count() -> None:
    """They still run in the one pool of the process."""
    taken = Bench(lost_threads=2).takes("thread", "thread", "scarce_thread", "free")
    assert taken == ["thread", "free"]
