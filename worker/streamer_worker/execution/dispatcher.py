"""Runs claims: from a claim to a settled request."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Final, NamedTuple

import anyio
import structlog
from anyio.abc import TaskGroup
from cachetools import LRUCache

from streamer_store import AsyncRequest, Claim, Progress, RequestQueue, WorkerLoss
from streamer_store.versions import cancel_version
from streamer_worker.concurrency.request_tasks import RequestTasks
from streamer_worker.events import StepFailed
from streamer_worker.execution import attempt_events
from streamer_worker.execution.attempt import Attempt, Interruption
from streamer_worker.execution.channels import context_of
from streamer_worker.execution.invoker import Invoker
from streamer_worker.execution.outcome import (
    AttemptEnd,
    ClaimEnded,
    Fenced,
    Interrupted,
    NoHandler,
    Outcome,
    Raised,
    Returned,
    TimedOut,
    decide,
    deciding_error,
)
from streamer_worker.execution.progress import ProgressWriter
from streamer_worker.execution.settler import Settled, Settler
from streamer_worker.execution.tracebacks import drop_tracebacks
from streamer_worker.handlers.registry import Registry
from streamer_worker.intake.slots import Assignment, ClaimCall, Slots
from streamer_worker.push.announcer import Announcer
from streamer_worker.retry import DEFAULT_RETRY
from streamer_worker.runtime import Runtime
from streamer_worker.settings import Settings

_MAX_CANCELLED_VERSIONS: Final = 1000
_UNSETTLED: Final = Settled("unsettled", None)


class _Decision(NamedTuple):
    """What is written for an attempt, and whether it ended by its timeout."""

    outcome: Outcome | ClaimEnded
    timed_out: bool


class Dispatcher:
    """Runs a task for each claim, and in it a task for its handler.

    The claimer has taken the claim's slot. The dispatcher frees it when the handler ends.
    `stuck` holds the attempts whose handlers still run after cancellation. Event loop's thread
    only.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        requests: RequestQueue,
        settler: Settler,
        slots: Slots,
        invoker: Invoker,
        announcer: Announcer,
        settings: Settings,
        runtime: Runtime,
    ) -> None:
        self._registry = registry
        self._requests = requests
        self._settler = settler
        self._slots = slots
        self._settings = settings.handler
        self._max_rescues = settings.rescue.max_rescues
        self._runtime = runtime
        self._invoker = invoker
        self._announcer = announcer
        self._draining = False
        self._attempts: set[Attempt] = set()
        self.stuck: set[Attempt] = set()
        # A cancellation may arrive before the answer to the claim that it cancels.
        self._cancelled: LRUCache[str, None] = LRUCache(_MAX_CANCELLED_VERSIONS)

    def drain(self) -> None:
        """Release claims that arrive from now on instead of running them. Handlers see it as
        `ctx.draining`.
        """
        self._draining = True

    def interrupt_all(self, reason: Interruption) -> None:
        """Interrupt every running handler. Claims that arrive from now on are released."""
        self._draining = True
        for attempt in self._attempts:
            attempt.interrupt(reason)

    def cancel(self, versions: frozenset[str]) -> None:
        """Interrupt the handlers of the claims whose cancellation set these Versions."""
        for version in versions:
            self._cancelled[version] = None
        for attempt in self._attempts:
            # VERSION-2: a later claim of the same request has another Version.
            if cancel_version(attempt.claim.version) in versions:
                attempt.interrupt(Interruption.CANCELLED)

    def start(self, tasks: RequestTasks, claim: ClaimCall) -> None:
        """Start a task that claims a request, and runs it if the claim was won. `claim` raises
        nothing.
        """
        tasks.start_soon(self._claim_and_run, claim, tasks.group)

    async def _claim_and_run(self, claim: ClaimCall, tasks: TaskGroup) -> None:
        assignment = await claim()
        if assignment is not None:
            await self.run_one(assignment, tasks)

    async def run_one(self, assignment: Assignment, tasks: TaskGroup) -> str:
        """Run the handler of a claim in `tasks`, settle the request, and return its status: one of
        those that RequestFinished lists.

        Call it in a task of its own: the log fields of the request remain set in that task. A
        cancellation interrupts the handler, and its end and outcome are shielded from it. The
        time is bounded by the handler's timeout, the grace period and the settler's timeout.
        Raises nothing: what fails here leaves the request running, and the rescuer finds it.
        """
        claim = assignment.claim
        started = self._runtime.clock.steady()
        settled = _UNSETTLED
        _bind_log_fields(claim.request)
        self._runtime.events.emit(attempt_events.started(claim.request))
        attempt = self._prepare(claim)
        try:
            writer = await self._run_handler(attempt, tasks)
            progress = await self._end_handler(attempt, writer)
            if attempt not in self.stuck:
                # The next claim can be sent together with the outcome.
                self._slots.vacate(assignment.slot)
            decision = self._decide(claim, attempt)
            settled = await self._settle(claim, decision, progress)
        except Exception as error:  # noqa: BLE001  see above
            self._runtime.events.emit(StepFailed(loop="dispatch", error=error))
        finally:
            self._free_slot(assignment, attempt, tasks)
        seconds = self._runtime.clock.steady() - started
        self._runtime.events.emit(attempt_events.finished(claim.request, settled, seconds))
        return settled.status

    def _prepare(self, claim: Claim) -> Attempt | None:
        """Return the attempt. None if the action has no handler, or the worker drains: DRAIN-1."""
        handler = self._registry.get(claim.request.action)
        if handler is None or self._draining:
            return None
        attempt = Attempt(claim=claim, handler=handler, draining=lambda: self._draining)
        self._attempts.add(attempt)
        return attempt

    async def _run_handler(
        self, attempt: Attempt | None, tasks: TaskGroup
    ) -> ProgressWriter | None:
        """Run the handler until it ends or is interrupted. Return the writer of its progress,
        None if it was not called.
        """
        if attempt is None:
            return None
        if self._cancelled and cancel_version(attempt.claim.version) in self._cancelled:
            attempt.skip(Interruption.CANCELLED)
            return None
        writer = self._progress_writer(attempt, tasks)
        timeout = self._timeout(attempt)
        ctx = context_of(
            attempt,
            writer,
            push=partial(self._announcer.sent, attempt.claim.request),
            deadline=self._runtime.clock.now() + timedelta(seconds=timeout),
            state=self._invoker.state_of(attempt.handler),
        )
        call = partial(self._invoker.call, attempt.handler, attempt.claim.request, ctx)
        self._announcer.started(attempt.claim.request)
        attempt.start(call, tasks)
        await attempt.wait(timeout)
        return writer

    async def _end_handler(
        self, attempt: Attempt | None, writer: ProgressWriter | None
    ) -> Progress | None:
        """Wait for an interrupted handler, and report it if it does not end within the grace
        period. Return the progress that is not in the table yet.
        """
        if attempt is None or writer is None:
            return None
        if attempt.is_done and not writer.was_used:
            return await writer.close()  # waits for nothing
        progress = None
        with anyio.CancelScope(shield=True):
            await attempt.wait_grace(self._settings.cancel_grace)
            if not attempt.is_done:
                self.stuck.add(attempt)
                self._runtime.events.emit(attempt_events.stuck(attempt))
            progress = await writer.close()
        return progress  # noqa: RET504  mypy: a scope may end its block early

    def _progress_writer(self, attempt: Attempt, tasks: TaskGroup) -> ProgressWriter:
        return ProgressWriter(
            requests=self._requests,
            claim=attempt.claim,
            on_lost=attempt.mark_lost,
            push=partial(self._announcer.progressed, attempt.claim.request),
            tasks=tasks,
            runtime=self._runtime,
        )

    def _end_of(self, claim: Claim, attempt: Attempt | None) -> AttemptEnd | ClaimEnded:
        """Return how the attempt ended: the first case that holds.

        1. No attempt: the worker drains, or has no handler for the action.
        2. The request was cancelled or taken away.
        3. The handler returned, whether or not it was interrupted before.
        4. The handler was interrupted: by its timeout, a drain or pause, or the fence.
        5. The handler raised.
        """
        if attempt is None:
            known = claim.request.action in self._registry
            return Interrupted() if known else NoHandler(action=claim.request.action)
        if attempt.has_lost_claim:
            return ClaimEnded(status=str(attempt.interruption))
        if isinstance(attempt.ended, Returned):
            return attempt.ended
        match attempt.interruption:
            case Interruption.TIMEOUT:
                return TimedOut(seconds=self._timeout(attempt))
            case Interruption.RELEASED | Interruption.PAUSED:
                return Interrupted()
            case Interruption.FENCED:
                now = self._runtime.clock.now()
                loss = WorkerLoss(last_seen=now, max_rescues=self._max_rescues)
                return Fenced(loss=loss)
        assert attempt.ended is not None  # noqa: S101  nothing else ends the wait
        return attempt.ended

    def _decide(self, claim: Claim, attempt: Attempt | None) -> _Decision:
        """Return the outcome to write, or the end of the claim: then nothing may be written.

        The handler's result or exception is freed: writing the outcome may take an hour.
        """
        end = self._end_of(claim, attempt)
        try:
            if isinstance(end, ClaimEnded):
                return _Decision(end, timed_out=False)
            if isinstance(end, Raised):
                end = Raised(error=deciding_error(end.error))
                self._runtime.events.emit(attempt_events.raised(claim.request, end.error))
            outcome = self._outcome_of(end, claim, attempt)
            return _Decision(outcome, timed_out=isinstance(end, TimedOut))
        finally:
            if isinstance(end, Raised):
                drop_tracebacks(end.error)
            if attempt is not None:
                attempt.forget_end()

    def _outcome_of(self, end: AttemptEnd, claim: Claim, attempt: Attempt | None) -> Outcome:
        policy = attempt.handler.retry if attempt is not None else DEFAULT_RETRY
        decide_end = partial(decide, request=claim.request, policy=policy, rng=self._runtime.rng)
        try:
            return decide_end(end)
        except BaseException as error:  # noqa: BLE001  the handler's result or exception raised it
            self._runtime.events.emit(attempt_events.raised(claim.request, error))
            unreadable = RuntimeError(f"its outcome cannot be read: {error!r}")
            drop_tracebacks(error)
            return decide_end(Raised(error=unreadable))

    async def _settle(
        self, claim: Claim, decision: _Decision, progress: Progress | None
    ) -> Settled:
        """Write the outcome, and the progress with it. An attempt that ended by its timeout has
        the status timeout, whether the request failed or is retried.
        """
        if isinstance(decision.outcome, ClaimEnded):
            if decision.outcome.status == Interruption.CANCELLED:
                self._announcer.cancelled(claim.request)
            return Settled(decision.outcome.status, None)
        settled = await self._settler.settle(claim, decision.outcome, progress)
        if decision.timed_out and settled.status in {"failed", "retried"}:
            return settled._replace(status="timeout")
        return settled

    def _free_slot(self, assignment: Assignment, attempt: Attempt | None, tasks: TaskGroup) -> None:
        """Settle the request and free the slot, if its handler has not ended before. The slot of a
        thread that still runs is freed at the thread's end.

        CLAIM-3: called after the outcome was written or given up.
        """
        if attempt is not None:
            self._attempts.discard(attempt)
        if attempt not in self.stuck:
            self._slots.release(assignment.slot)
            return
        if attempt.handler.in_thread:
            self._slots.settle(assignment.slot)
        else:
            self._slots.release(assignment.slot)
        tasks.start_soon(self._await_stuck, assignment, attempt)

    async def _await_stuck(self, assignment: Assignment, attempt: Attempt) -> None:
        await attempt.wait_done()
        attempt.forget_end()
        self.stuck.discard(attempt)
        self._slots.release(assignment.slot)
        self._runtime.events.emit(attempt_events.stuck_ended(attempt))

    def _timeout(self, attempt: Attempt) -> float:
        return attempt.handler.timeout or self._settings.timeout


def _bind_log_fields(request: AsyncRequest) -> None:
    """Add the request's fields to each log line of this task, and of tasks that it starts."""
    structlog.contextvars.bind_contextvars(
        worker_id=request.worker_id,
        request_id=request.request_id,
        action=request.action,
        attempt=request.retry_count + 1,
    )
