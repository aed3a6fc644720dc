"""Fleets in virtual time with rate limits and limits of the whole fleet, with all troubles.

`STREAMER_TEST_SCHEDULES=5000 pytest tests/simulation/test_limits.py` runs more seeds.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from simulation.limited import FleetLimitWorld, RateWorld
from simulation.runner import run_world, seeds, violations_in
from simulation.schedule import Job, Kind, Schedule, Trouble, schedule_of
from streamer_store.rate_limits import PermitTable
from streamer_store.rates import MICROSECONDS, Block, Rate, Refused
from streamer_worker.fleet.server_clock import ServerClock
from streamer_worker.intake import fleet_limits

SEEDS = seeds(50)
# The first heartbeat, after which workers no longer claim the same requests.
_FIRST_HEARTBEAT = 4.0
# Seconds after the troubles in which all requests end, also those that several workers lost.
_PATIENCE = 600.0


class TenantRates(RateWorld):
    """Each tenant has a rate of its own."""

    rate = None
    rate_per_tenant = "2/s burst 2"


class BothRates(RateWorld):
    """The action has a rate, and each tenant a lower one."""

    rate = "40/10s"
    rate_per_tenant = "3/2s"


class SlowRate(RateWorld):
    """Less than one in a second, so each permit is asked for alone."""

    rate = "4/5s"


class TwoAtOnce(FleetLimitWorld):
    """Fewer than there are workers, which take turns."""

    limit = 2


class FiveAtOnce(FleetLimitWorld):
    """More than a worker runs at once."""

    limit = 5


_RATES = (RateWorld, TenantRates, BothRates, SlowRate)
_LIMITS = (FleetLimitWorld, TwoAtOnce, FiveAtOnce)


def _rated(seed: int, *, skew: float, count: int = 60) -> Schedule:
    """Return a schedule of short requests of three tenants, and of none."""
    rng = random.Random(f"rates {seed}")
    jobs = tuple(
        Job(seconds=rng.choice((0.1, 0.5, 2)), tenant=rng.choice(["a", "b", "c", None]))
        for _ in range(count)
    )
    schedule = replace(schedule_of(seed), jobs=jobs, old_workers=0, patience=_PATIENCE)
    return replace(schedule, skew=skew, trouble_for=40)


def _limited(seed: int) -> Schedule:
    rng = random.Random(f"limits {seed}")
    jobs = tuple(Job(seconds=rng.choice((0.5, 1, 3, 8))) for _ in range(30))
    schedule = replace(schedule_of(seed), jobs=jobs, old_workers=0, patience=_PATIENCE)
    return replace(schedule, skew=5, trouble_for=60)


def _calm(schedule: Schedule, *, crashes: int = 0) -> Schedule:
    """Return the schedule without faults, in which a worker dies every four seconds."""
    calm = Schedule(seed=schedule.seed, workers=schedule.workers, jobs=schedule.jobs)
    crash = Trouble(kind=Kind.CRASH, after=4)
    return replace(calm, troubles=tuple(replace(crash, victim=number) for number in range(crashes)))


@pytest.mark.parametrize("seed", SEEDS)
def test_no_window_has_more_starts_than_the_rate(seed: int) -> None:
    """Whatever happens to the workers, and all requests end. Clocks are minutes off, and are set.

    Proves RATE-1 and RATE-2.
    """
    schedule = _rated(seed, skew=(0, 5, 60)[seed % 3])
    if not schedule.skew:
        steady = (each for each in schedule.troubles if each.kind is not Kind.CLOCK)
        schedule = replace(schedule, troubles=tuple(steady))
    assert violations_in(_RATES[seed % len(_RATES)], schedule) == []


def test_a_tenant_at_its_limit_delays_no_other() -> None:
    """Forty requests of a tenant wait before five of another, which start at their own rate."""
    jobs = (*(Job(seconds=1, tenant="a"),) * 40, *(Job(seconds=1, tenant="b"),) * 5)
    violations, world = run_world(TenantRates, Schedule(seed=1, workers=3, jobs=jobs))
    assert violations == []
    assert max(world.times("b")) <= 5 / 2 / 0.9 + _FIRST_HEARTBEAT
    assert max(world.times("a")) <= 40 / 2 / 0.9 + _FIRST_HEARTBEAT


@pytest.mark.parametrize("skew", [0.0, 60.0])
def test_dead_workers_cost_only_their_permits(skew: float) -> None:
    """A worker dies every four seconds. Each takes half a second's permits with it at most."""
    assert _late(skew) <= 0


def _late(skew: float) -> float:
    """Return by how many seconds 60 of 100 requests start later than docs/scheduling.md says."""
    started, rate, crashes = 60, 5, 3
    schedule = _calm(_rated(1, skew=skew, count=100), crashes=crashes)
    violations, world = run_world(RateWorld, replace(schedule, skew=skew))
    assert violations == []
    return world.times()[started - 1] - (started / rate / 0.9 + crashes * 0.5 + 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_fleet_never_runs_more_than_its_limit(seed: int) -> None:
    """Whatever happens to the workers, and all requests end. Proves FLEET-1."""
    assert violations_in(_LIMITS[seed % len(_LIMITS)], _limited(seed)) == []


@pytest.mark.parametrize("world_class", _LIMITS)
def test_the_fleet_uses_its_limit(world_class: type[FleetLimitWorld]) -> None:
    """Without troubles it runs as many as it may, and its work takes little longer than it must."""
    schedule = _calm(_limited(1))
    violations, world = run_world(world_class, schedule)
    assert violations == []
    assert world.most == world.limit
    work = sum(job.seconds for job in schedule.jobs) / world.limit
    assert max(run.ended or 0.0 for run in world.runs) <= 1.25 * work + 3 * _FIRST_HEARTBEAT


def _permits_of_each_worker(patch: pytest.MonkeyPatch) -> None:
    async def take(
        _self: PermitTable, _name: str, rate: Rate, permits: int, *, now: int
    ) -> Block | Refused:
        return Block(rate=rate, arrival=now, permits=permits, taken_at=now)

    patch.setattr(PermitTable, "take", take)


def _blocks_are_large(patch: pytest.MonkeyPatch) -> None:
    """Let a worker take the permits of five seconds, which breaks no rule of the rate."""
    patch.setattr(Rate, "block", property(lambda rate: 5 * MICROSECONDS // rate.cost(1)))
    patch.setattr(Rate, "allowance", property(lambda _: 5 * MICROSECONDS))


def _permits_are_never_void(patch: pytest.MonkeyPatch) -> None:
    _blocks_are_large(patch)
    patch.setattr(Rate, "lifetime", property(lambda _: 3600 * MICROSECONDS))


def _permits_are_good_at_once(patch: pytest.MonkeyPatch) -> None:
    _blocks_are_large(patch)
    patch.setattr(Block, "good_from", lambda block, _: block.taken_at)


def _clocks_are_not_corrected(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ServerClock, "correction", 0.0)


@pytest.mark.parametrize(
    "broken",
    [
        _permits_of_each_worker,
        _permits_are_never_void,
        _permits_are_good_at_once,
        _clocks_are_not_corrected,
    ],
)
def test_the_checks_detect_broken_permits(
    broken: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative controls: each broken variant is above its rate within a few runs."""
    broken(monkeypatch)
    assert any(
        "at most" in violation
        for seed in range(20)
        for violation in violations_in(
            RateWorld, replace(_rated(seed, skew=60, count=40), patience=30)
        )
    )


def test_dead_workers_that_cost_more_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: with blocks of five seconds a dead worker costs up to five seconds."""
    _blocks_are_large(monkeypatch)
    assert _late(0.0) > 0


def test_workers_that_do_not_count_the_others_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a worker that uses what it announced before it has read the others' rows.

    It is found within a few runs.
    """
    monkeypatch.setattr(fleet_limits, "confirmed", lambda limit, *_: limit)
    assert any(
        " run 4: " in violation
        for seed in range(10)
        for violation in violations_in(FleetLimitWorld, _limited(seed))
    )
