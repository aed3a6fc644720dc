"""The events of one simulation, as data: drawn from a seed, or by hypothesis."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from hypothesis import strategies as st

from streamer_store import Priority


class Kind(StrEnum):
    """The kinds of trouble."""

    CRASH = "crash"  # one worker ends, and another replaces it
    PAUSE = "pause"  # one worker does not run
    CUT = "cut"  # one worker has no network
    FREEZE = "freeze"  # no worker runs
    OUTAGE = "outage"  # no worker reaches the table
    CLOCK = "clock"  # the wall clock of one worker jumps


@dataclass(frozen=True, kw_only=True)
class Faults:
    """The probability of each fault of a call.

    - `before`: it fails without effect.
    - `after`: it takes effect, but its answer is lost.
    - `late`: it times out, and takes effect up to 20 s later.
    - `twice`: it takes effect, and once more up to 1 s later.
    - `slow`: it takes up to 3 s.
    - `stale`: a query reads an index that lags behind.
    """

    before: float = 0.0
    after: float = 0.0
    late: float = 0.0
    twice: float = 0.0
    slow: float = 0.0
    stale: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """A request, and the behaviour of its handler.

    - `seconds`: how long the handler runs.
    - `reports`: it writes progress and checkpoints. `raises`: it fails.
    - `snoozes`: it may raise RetryLater in its first attempt.
    - `lingers`: it ignores cancellation for 2 s.
    - `kills`: seconds until it crashes its worker.
    - `starves`: seconds of CPU time in which its worker does nothing else.
    - `action`: one of the world's actions.
    """

    seconds: float
    reports: bool = False
    raises: bool = False
    snoozes: bool = False
    lingers: bool = False
    max_retries: int = 3
    tenant: str | None = None
    priority: Priority | None = None
    kills: float | None = None
    starves: float | None = None
    action: str = "job"


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """One trouble, `after` seconds after the previous one. `victim` selects the worker."""

    kind: Kind
    after: float
    seconds: float = 0.0
    victim: int = 0


@dataclass(frozen=True, kw_only=True)
class Cancel:
    """Cancel a job `after` seconds after the previous cancel, and again `again` seconds later."""

    job: int
    after: float
    again: float


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One simulation. `seed` decides which calls have faults.

    Troubles and faults happen for `trouble_for` seconds. After that, the requests must end within
    `patience` seconds. `batch_writes`: the workers send writes together. The first `old_workers`
    that start have a release without lanes, at most all but one. `due_index`: whether the table
    has a DueIndex. During the troubles a producer enqueues under so many unique `keys`. `skew`: the
    clock of each worker is up to so many seconds off.
    """

    seed: int
    workers: int
    jobs: tuple[Job, ...]
    troubles: tuple[Trouble, ...] = ()
    cancels: tuple[Cancel, ...] = ()
    faults: Faults = field(default_factory=Faults)
    concurrency: int = 4
    timeout: float = 60.0
    poll: float = 2.0
    batch_writes: bool = True
    old_workers: int = 0
    due_index: bool = True
    keys: int = 0
    skew: float = 0.0
    trouble_for: float = 90.0
    patience: float = 2 * 3600.0

    def is_old(self, number: int) -> bool:
        """Return whether the release of this worker has no lanes. The first worker is 1."""
        return number <= min(self.old_workers, self.workers - 1)


SECONDS: Final = (0.1, 1, 5, 25, 50)
RETRIES: Final = (0, 1, 3, 5)
PRIORITIES: Final = (None, None, Priority.HIGH, Priority.LOW)
DURATIONS: Final = {
    Kind.CRASH: (0.0,),
    Kind.PAUSE: (5.0, 15.0, 20.0, 40.0),
    Kind.CUT: (2.0, 10.0, 40.0),
    Kind.FREEZE: (2.0, 15.0, 40.0),
    Kind.OUTAGE: (5.0, 30.0, 120.0),
    Kind.CLOCK: (-60.0, -5.0, 5.0, 60.0),
}
_WITH_DUE_INDEX: Final = 0.8
_DEFAULT_FAULTS: Final = Faults(
    before=0.02, after=0.02, late=0.01, twice=0.02, slow=0.05, stale=0.2
)


def schedule_of(seed: int) -> Schedule:
    """Return the schedule of this seed."""
    rng = random.Random(seed)
    jobs = tuple(_job(rng) for _ in range(8))
    return Schedule(
        seed=seed,
        workers=3,
        jobs=jobs,
        troubles=tuple(_trouble(rng) for _ in range(6)),
        cancels=tuple(
            Cancel(job=job, after=rng.uniform(0, 60), again=rng.uniform(0, 30))
            for job in rng.sample(range(len(jobs)), 2)
        ),
        faults=_DEFAULT_FAULTS,
        batch_writes=seed % 4 != 0,
        old_workers=rng.choice([0, 0, 1, 2]),
        due_index=rng.random() < _WITH_DUE_INDEX,
    )


def _job(rng: random.Random) -> Job:
    kind = rng.random()
    return Job(
        seconds=1 if kind < 0.15 else rng.choice(SECONDS),
        raises=kind < 0.15,
        snoozes=0.15 <= kind < 0.3,
        reports=0.5 <= kind < 0.7,
        lingers=kind > 0.9,
        max_retries=rng.choice(RETRIES),
        tenant=rng.choice(["a", "b", None]),
        priority=rng.choice(PRIORITIES),
    )


def _trouble(rng: random.Random) -> Trouble:
    kind = rng.choice(list(Kind))
    return Trouble(
        kind=kind,
        after=rng.uniform(1, 30),
        seconds=rng.choice(DURATIONS[kind]),
        victim=rng.randrange(100),
    )


def schedules() -> st.SearchStrategy[Schedule]:
    """Draw any schedule. Hypothesis finds the smallest one that fails."""
    flag = st.sampled_from([False, False, False, True])
    chance = st.sampled_from([0.0, 0.02, 0.1])
    jobs = st.builds(
        Job,
        seconds=st.sampled_from(SECONDS),
        reports=flag,
        raises=flag,
        snoozes=flag,
        lingers=flag,
        max_retries=st.sampled_from(RETRIES),
        tenant=st.sampled_from([None, "a", "b"]),
        priority=st.sampled_from(PRIORITIES),
    )
    troubles = st.sampled_from(list(Kind)).flatmap(
        lambda kind: st.builds(
            Trouble,
            kind=st.just(kind),
            after=st.floats(0, 30),
            seconds=st.sampled_from(DURATIONS[kind]),
            victim=st.integers(0, 5),
        )
    )
    cancels = st.builds(
        Cancel, job=st.integers(0, 11), after=st.floats(0, 60), again=st.floats(0, 30)
    )
    return st.builds(
        Schedule,
        seed=st.integers(0, 2**16),
        workers=st.integers(1, 5),
        batch_writes=st.booleans(),
        jobs=st.lists(jobs, min_size=1, max_size=12).map(tuple),
        troubles=st.lists(troubles, max_size=8).map(tuple),
        cancels=st.lists(cancels, max_size=3).map(tuple),
        old_workers=st.sampled_from([0, 0, 1, 2]),
        due_index=st.sampled_from([True, True, True, False]),
        faults=st.builds(
            Faults,
            before=chance,
            after=chance,
            late=st.sampled_from([0.0, 0.01, 0.05]),
            twice=chance,
            slow=chance,
            stale=st.sampled_from([0.0, 0.2, 0.5]),
        ),
    )
