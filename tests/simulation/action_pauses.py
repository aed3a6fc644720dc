"""Fleets in virtual time that pause an action by themselves: holds and fuses, and their checks."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

from simulation.claims import ClaimWorld, PauseWrite, seconds_of
from simulation.engine import WorkerEngine
from simulation.judge import Run
from simulation.pausing import WORKER
from simulation.schedule import Faults, Job, Kind
from streamer_store import PauseKind
from streamer_store.pause import key_of
from streamer_worker import Fuse, RetryLater
from streamer_worker.app import App
from streamer_worker.events import Event, FuseProbed, PauseEnded, PauseStarted
from streamer_worker.settings import PresenceSettings

HEARTBEAT: Final = PresenceSettings().heartbeat
# A worker that lives has read of a pause so many seconds after it was written.
_LEARNED: Final = HEARTBEAT + 0.5
# Stored times have whole microseconds.
_ROUNDING: Final = timedelta(milliseconds=1)
# A claim was checked so many seconds before it is sent, at most: the writes of a moment wait for
# each other.
_SENDING: Final = 0.2


@dataclass(frozen=True, kw_only=True)
class _Known:
    """A pause of the action that a worker knows of. `since`: from when on, in seconds."""

    since: float
    until: datetime | None


class PausingWorld(ClaimWorld, ABC):
    """A world whose workers pause the action `job` by themselves."""

    kind: PauseKind

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._known: dict[str, _Known] = {}

    @property
    def key(self) -> str:
        """The name of the pause in its row."""
        return key_of(self.kind, "job")

    def writes(self) -> Iterator[PauseWrite]:
        """Yield the writes of the pause."""
        return (write for write in self.journal.pauses if write.key == self.key)

    def _app(self, engine: WorkerEngine, rng: random.Random, calls: TaskGroup) -> App:
        self._known.pop(engine.name, None)
        return super()._app(engine, rng, calls)

    def _check_event(self, event: Event) -> None:
        super()._check_event(event)
        if isinstance(event, PauseStarted) and event.kind is self.kind:
            self._known[WORKER.get()] = _Known(since=anyio.current_time(), until=event.until)
        elif isinstance(event, PauseEnded) and event.kind is self.kind:
            self._known.pop(WORKER.get(), None)

    def _record_start(self, run: Run) -> None:
        super()._record_start(run)
        known = self._known.get(run.worker)
        sent = self.sent[run.number]
        if run.action == "job" and known is not None and sent > known.since + _SENDING:
            self._check_claim(run, sent)

    @abstractmethod
    def _check_claim(self, run: Run, sent: float) -> None:
        """Check a run of the action whose worker knew of the pause when it sent the claim."""

    def _judge(self) -> Iterable[str]:
        if self.is_calm:
            yield from self._judge_calm()

    def _judge_calm(self) -> Iterable[str]:
        """Return what should not have happened in a schedule in which workers only crash."""
        return ()

    @property
    def is_calm(self) -> bool:
        """Whether workers crash, and nothing else happens."""
        kinds = {trouble.kind for trouble in self.schedule.troubles}
        return self.schedule.faults == Faults() and not self.max_skew and kinds <= {Kind.CRASH}


class HoldWorld(PausingWorld):
    """A world in which some requests hold back their action, once each, for 10 to 20 s."""

    kind = PauseKind.HOLD

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._asked: set[str] = set()

    async def _end(self, run: Run, job: Job, _ctx: Any) -> Any:
        if job.snoozes and run.request_id not in self._asked:
            self._asked.add(run.request_id)
            raise RetryLater("busy", after=10 + 5 * (run.number % 3), scope="action")
        return {"run": run.number}

    def _check_claim(self, run: Run, sent: float) -> None:
        until = self._known[run.worker].until
        if until is not None and self.clock_at(run.worker, sent) + _ROUNDING < until:
            self.violations.append(f"{run.worker} claimed {run.request_id} at {sent:.2f} s: held")

    def _judge(self) -> Iterable[str]:
        yield from super()._judge()
        for write in self.writes():
            before = seconds_of(write.old["Until"]) if write.old else 0.0
            after = seconds_of(write.new["Until"]) if write.new else write.at + self.max_skew
            if after < before:
                yield f"{write.writer} shortened the hold at {write.at:.2f} s: {write}"

    def _judge_calm(self) -> Iterable[str]:
        """Return the runs that began although each worker had read of the hold."""
        for write in self.writes():
            if write.new:
                since, until = write.at + _LEARNED, seconds_of(write.new["Until"])
                for run in self.runs:
                    is_early = since < self.sent[run.number] < until - _ROUNDING.total_seconds()
                    if run.action == "job" and is_early:
                        yield f"{run.worker} had to know of the hold of {write.at:.2f} s"


class FuseWorld(PausingWorld):
    """A world in which the action fails for a minute, and has a fuse.

    `broken_for`: for how long all its attempts fail, in seconds.
    """

    kind = PauseKind.FUSE
    fuse = Fuse(failures=3, within=timedelta(minutes=1), probe_every=timedelta(seconds=10))
    broken_for = 60.0

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._probed: Counter[tuple[str, str]] = Counter()
        self.probes: list[Run] = []

    @property
    def actions(self) -> Mapping[str, Mapping[str, Any]]:
        return {"job": {"pause_after_failures": self.fuse}, "other": {}}

    async def _end(self, run: Run, _job: Job, _ctx: Any) -> Any:
        if run.action == "job" and anyio.current_time() < self.broken_for:
            raise ValueError("it does not work yet")
        return {"run": run.number}

    def _check_event(self, event: Event) -> None:
        super()._check_event(event)
        if isinstance(event, FuseProbed):
            worker = WORKER.get()
            self._probed[worker, event.request_id] += 1
            moves = sum(write.writer == worker for write in self.moves())
            if sum(n for (who, _), n in self._probed.items() if who == worker) > moves:
                self.violations.append(f"{worker} probes {event.request_id}, and moved nothing")

    @property
    def others_waited_until(self) -> float:
        """When the last request of the other action began its first run, in seconds."""
        began: dict[str, float] = {}
        for run in self.runs:
            if run.action == "other":
                began.setdefault(run.request_id, run.began)
        return max(began.values())

    def moves(self) -> Iterator[PauseWrite]:
        """Yield the writes that moved the time of the next probe (PAUSE-3)."""
        for write in self.writes():
            if write.old and write.new and write.old["Probe"] != write.new["Probe"]:
                yield write

    def _check_claim(self, run: Run, sent: float) -> None:
        if not self._probed[run.worker, run.request_id]:
            self.violations.append(f"{run.worker} claimed {run.request_id} at {sent:.2f} s: fused")
        else:
            self._probed[run.worker, run.request_id] -= 1
            self.probes.append(run)

    def _judge(self) -> Iterable[str]:
        yield from super()._judge()
        every, rounding = self.fuse.probe_every.total_seconds(), _ROUNDING.total_seconds()
        is_blown = False
        for write in self.writes():
            is_blown = bool(write.new)
            if write.old and write.new:
                due, next_due = seconds_of(write.old["Probe"]), seconds_of(write.new["Probe"])
                if write.at + self.max_skew + rounding < due:
                    yield f"a probe at {write.at:.2f} s, and it was due at {due:.2f} s"
                if next_due + rounding < due + every:
                    yield f"a probe is due at {next_due:.2f} s, and one was at {due:.2f} s"
        if is_blown:
            yield "the fuse was not ended"

    def _judge_calm(self) -> Iterable[str]:
        """Return the probes that succeeded and did not end the pause."""
        ends = [write.at for write in self.writes() if not write.new]
        for probe in self.probes:
            done = probe.ended is not None and not probe.failed and not probe.torn
            if done and not any(0 <= at - (probe.ended or 0) < 1 for at in ends):
                yield f"the probe that ended at {probe.ended} s did not end the pause"
