"""The checks after a simulation has ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from simulation.engine import WorkerEngine
from simulation.journal import Journal
from simulation.key_journal import KeyJournal
from simulation.schedule import Faults, Job, Schedule
from streamer_store import AsyncRequest, RequestStatus
from streamer_store.transitions import TERMINAL
from streamer_worker.error_codes import WORKER_LOST

FAILED = RequestStatus.FAILED


@dataclass(kw_only=True)
class Run:
    """One call of a handler.

    `torn`: its worker crashed meanwhile, or it ignored its cancellation. `stale`: another worker
    had claimed the request before this call began. `failed`: it raised an error.
    """

    number: int
    request_id: str
    worker: str
    began: float
    ended: float | None = None
    torn: bool = False
    stale: bool = False
    action: str = "job"
    failed: bool = False


@dataclass(kw_only=True)
class Judge:
    """Checks the calls of handlers and the final requests."""

    journal: Journal
    runs: Sequence[Run]
    engines: Sequence[WorkerEngine]
    violations: list[str] = field(default_factory=list)

    def check(self, requests: Mapping[str, AsyncRequest], schedule: Schedule) -> None:
        """Add to `violations` what should not have happened."""
        self._check_ends(schedule.faults)
        self._check_innocents(requests.values(), schedule.jobs)
        starts = Counter(run.request_id for run in self.runs)
        for request_id, request in requests.items():
            if request.status not in TERMINAL:
                self.violations.append(f"{request_id} remains {request.status}")
            limit = request.max_retries + 1 + self.journal.uncounted.get(request_id, 0)
            if starts[request_id] > limit:
                self.violations.append(f"{request_id}: {starts[request_id]} attempts of {limit}")
            if request.status is RequestStatus.COMPLETED:
                self._check_result(request)
            self._check_attempts(request)

    def check_keys(
        self, requests: Iterable[AsyncRequest], keys: KeyJournal, started: Iterable[str]
    ) -> None:
        """Check the requests with unique keys. `started`: the runs that a producer has begun."""
        self.violations += keys.violations
        for request in requests:
            if request.status not in TERMINAL:
                self.violations.append(f"{request.request_id} remains {request.status}")
        for run in started:
            if not keys.stored[run]:
                self.violations.append(f"the answer says that {run} was stored, and it was not")

    def _check_attempts(self, request: AsyncRequest) -> None:
        """Check that attempts are listed once, and the failure of the request among them."""
        attempts = request.attempts
        if len({(attempt.worker_id, attempt.started) for attempt in attempts}) < len(attempts):
            self.violations.append(f"{request.request_id} lists an attempt twice: {attempts}")
        ended = [attempt.error_code for attempt in attempts if attempt.outcome == "failed"]
        if ended != ([request.error_code] if request.status is FAILED else []):
            self.violations.append(f"{request.request_id}, {request.status}, lists {attempts}")

    def _check_innocents(self, requests: Iterable[AsyncRequest], jobs: Sequence[Job]) -> None:
        """Check that only a request that ends its workers, or must not run twice, is lost."""
        for request, job in zip(requests, jobs, strict=True):
            guilty = job.kills is not None or job.starves is not None or job.max_retries == 0
            if request.error_code == WORKER_LOST and request.status is FAILED and not guilty:
                self.violations.append(
                    f"{request.request_id}, innocent, failed after {request.rescues} rescues"
                )

    def _check_ends(self, faults: Faults) -> None:
        """Check that a handler ends soon after its worker could notice that it lost the request."""
        journal = self.journal
        max_delay = 20 + 200 * (faults.before + faults.late)
        engines = {engine.name: engine for engine in self.engines}
        for run in self.runs:
            engine = engines[run.worker]
            lost = journal.rescued_at.get((run.request_id, run.worker))
            lost = journal.cancelled_at.get(run.request_id) if lost is None else lost
            if run.stale:
                lost = run.began
            if lost is None or run.ended is None or run.began > lost or engine.dead:
                continue
            since = lost
            undisturbed = 0.0
            for start, end in [*sorted(engine.disturbed), (run.ended, run.ended)]:
                undisturbed = max(undisturbed, min(start, run.ended) - since)
                since = max(since, end)
            if undisturbed > max_delay:
                self.violations.append(f"{run.worker} ran {run.request_id} long after losing it")

    def _check_result(self, request: AsyncRequest) -> None:
        assert request.result is not None
        run = self.runs[request.result["run"]]
        owner, _ = self.journal.owners[request.request_id]
        if (run.request_id, run.worker) != (request.request_id, owner):
            self.violations.append(
                f"{request.request_id} has a result of {run.worker}, {owner} settled it"
            )
