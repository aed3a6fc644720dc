"""Fleets in virtual time in which an operator pauses the action, with all troubles."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest
from trio.testing import MockClock

from simulation.judge import Run
from simulation.pausing import WORKER
from simulation.runner import seeds, violations_in
from simulation.schedule import Faults, Kind, Schedule, Trouble, schedule_of
from simulation.world import World
from streamer_store import Pause, PauseKind
from streamer_worker.events import Event, PauseEnded, PauseStarted
from streamer_worker.fleet.heartbeat import Heartbeat
from streamer_worker.intake.pause_gate import PauseGate
from support import START

SEEDS = seeds(50)
# A claim that was sent before the worker knew of the pause has been answered after so long.
_ANSWERED = 6.0
_PAUSED_FROM, _PAUSED_FOR = 10.0, 60.0


def _schedule(seed: int) -> Schedule:
    """Return the schedule of this seed, with more requests than can run before the pause."""
    schedule = schedule_of(seed)
    return replace(schedule, jobs=schedule.jobs * 5)


class PausedWorld(World):
    """A world in which the action is paused for a minute. It checks that nothing starts then."""

    def __init__(self, schedule: Schedule, clock: MockClock) -> None:
        super().__init__(schedule, clock)
        self.known_since: dict[str, float] = {}
        self.resumed_at = float("inf")

    async def _make_trouble(self) -> None:
        self.tasks.start_soon(self._pause_action)
        await super()._make_trouble()

    async def _pause_action(self) -> None:
        await anyio.sleep(_PAUSED_FROM)
        pause = Pause(kind=PauseKind.ACTION, name="job", by="operator", at=START)
        await self.operator.pauses.start(pause)
        await anyio.sleep(_PAUSED_FOR)
        self.resumed_at = anyio.current_time()
        for found in await self.operator.pauses.read_all():
            await self.operator.pauses.end(found)

    def _check_event(self, event: Event) -> None:
        super()._check_event(event)
        if isinstance(event, PauseStarted):
            self.known_since[WORKER.get()] = anyio.current_time()
        elif isinstance(event, PauseEnded):
            self.known_since.pop(WORKER.get(), None)

    def _record_start(self, run: Run) -> None:
        super()._record_start(run)
        known = self.known_since.get(run.worker, float("inf"))
        disturbed = self._engine_of(run).disturbed
        since = max([known, *(end for _, end in disturbed)])
        is_stalled = run.worker in self.queue.paused
        if not is_stalled and since + _ANSWERED < run.began < self.resumed_at:
            self.violations.append(f"{run.worker} started {run.request_id}, which is paused")


@pytest.mark.parametrize("seed", SEEDS)
def test_a_paused_action_does_not_start(seed: int) -> None:
    """Whatever happens to the workers, and all requests end once it is resumed. Proves PAUSE-1."""
    assert violations_in(PausedWorld, _schedule(seed)) == []


def test_a_paused_action_does_not_start_while_workers_are_killed() -> None:
    """One dies every four seconds, and another takes its place."""
    crashes = tuple(Trouble(kind=Kind.CRASH, after=4, victim=number) for number in range(15))
    schedule = replace(_schedule(1), troubles=crashes)
    assert violations_in(PausedWorld, schedule) == []


def _everything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def admit(*_: object) -> bool:
        return True

    monkeypatch.setattr(PauseGate, "may_run", lambda *_: True)
    monkeypatch.setattr(PauseGate, "admit", admit)


def test_workers_that_ignore_pauses_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check is sharp: without the gate it fails."""
    _everything_runs(monkeypatch)
    found = [
        violation for seed in range(5) for violation in violations_in(PausedWorld, _schedule(seed))
    ]
    assert any("which is paused" in violation for violation in found)


def test_workers_that_never_learn_of_pauses_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every worker that lives through the pause knows of it."""
    learned: set[str] = set()

    class Watching(PausedWorld):
        def _check_event(self, event: Event) -> None:
            super()._check_event(event)
            if isinstance(event, PauseStarted):
                learned.add(WORKER.get())

    quiet = replace(_schedule(1), troubles=(), faults=Faults())
    assert violations_in(Watching, quiet) == []
    assert learned == {"w1", "w2", "w3"}
    learned.clear()
    monkeypatch.setattr("streamer_worker.incarnation.CONTROL_PAUSE", "control#other")
    monkeypatch.setattr(Heartbeat, "_try_read_pauses", _nothing)
    violations_in(Watching, quiet)
    assert learned == set()


async def _nothing(*_: object) -> None:
    pass
