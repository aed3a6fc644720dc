"""From a claim to a settled request."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
import structlog
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream
from cachetools import LRUCache

from streamer_store import Claim, Clock, Progress, RequestQueue, WorkerLoss
from streamer_store.versions import cancel_version
from streamer_worker.events import (
    Events,
    HandlerRaised,
    HandlerStuck,
    PayloadRefused,
    RequestFinished,
    RequestStarted,
    StepFailed,
    StuckHandlerEnded,
)
from streamer_worker.execution.attempt import Interruption, Running
from streamer_worker.execution.channels import context_of
from streamer_worker.execution.invoker import Caller
from streamer_worker.execution.outcome import (
    Ended,
    Fail,
    Fenced,
    Interrupted,
    NoHandler,
    Outcome,
    Raised,
    Retry,
    Returned,
    TimedOut,
    decide,
    verdict_of,
)
from streamer_worker.execution.progress import ProgressWriter
from streamer_worker.execution.settler import Settler
from streamer_worker.handlers.registry import Registry
from streamer_worker.handlers.schema import PayloadInvalid
from streamer_worker.intake.slots import Assignment, Slots
from streamer_worker.push.announcer import Announcer
from streamer_worker.retry import DEFAULT_RETRY
from streamer_worker.settings import HandlerSettings

if TYPE_CHECKING:
    import random

_REMEMBERED_CANCELS: Final = 1000
_AGAIN: Final = frozenset({"retried", "snoozed", "rescued", "timeout"})


class Dispatcher:
    """Runs one task per claim, and one for its handler. The claim's slot was taken by the
    poller and is given back here.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        requests: RequestQueue,
        settler: Settler,
        slots: Slots,
        caller: Caller,
        announcer: Announcer,
        settings: HandlerSettings,
        max_rescues: int,
        events: Events,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._registry = registry
        self._requests = requests
        self._settler = settler
        self._slots = slots
        self._settings = settings
        self._max_rescues = max_rescues
        self._events = events
        self._clock = clock
        self._rng = rng
        self._caller = caller
        self._announcer = announcer
        self._draining = False
        self._running: set[Running] = set()
        self.stuck: set[Running] = set()
        # A cancellation may arrive before the answer to the claim that it cancels.
        self._cancelled: LRUCache[str, None] = LRUCache(_REMEMBERED_CANCELS)

    def drain(self) -> None:
        """From now on, claims that arrive are released, not run, and handlers can see it."""
        self._draining = True

    def end(self, why: Interruption) -> None:
        """Interrupt every handler, and every one that would still begin."""
        self._draining = True
        for running in self._running:
            running.interrupt(why)

    def cancel(self, versions: frozenset[str]) -> None:
        """Interrupt the handlers of the claims whose cancellation set these Versions."""
        for version in versions:
            self._cancelled[version] = None
        for running in self._running:
            if cancel_version(running.claim.version) in versions:
                running.interrupt(Interruption.CANCELLED)

    async def run(
        self, assignments: MemoryObjectReceiveStream[Assignment], tasks: TaskGroup
    ) -> None:
        """Start a task in `tasks` for every claim that arrives, until the stream ends.

        Cancellation does not end it: a claim that nobody takes would be a lost request.
        """
        with anyio.CancelScope(shield=True):
            async with assignments:
                async for assignment in assignments:
                    tasks.start_soon(self.run_one, assignment, tasks)

    async def run_one(self, assignment: Assignment, tasks: TaskGroup) -> str:
        """Run the handler in `tasks`, settle the request, and return what became of it."""
        request = assignment.claim.request
        attempt = request.retry_count + 1
        started = self._clock.steady()
        became, code, again = "unsettled", None, False
        # Shielded, and bounded: by the handler's time, the grace, and the settler's patience.
        with (
            anyio.CancelScope(shield=True),
            structlog.contextvars.bound_contextvars(
                worker_id=request.worker_id,
                request_id=request.request_id,
                action=request.action,
                attempt=attempt,
            ),
        ):
            self._events.emit(
                RequestStarted(
                    request_id=request.request_id, action=request.action, attempt=attempt
                )
            )
            running = self._prepare(assignment.claim)
            try:
                progress = None if running is None else await self._work(running, tasks)
                became, settled = await self._settle(assignment.claim, running, progress)
                if isinstance(settled, Fail):
                    code = settled.code
                elif isinstance(settled, Retry) and became in _AGAIN:
                    code, again = settled.code, True
            except Exception as error:  # noqa: BLE001  the rescuer finds what is left running
                self._events.emit(StepFailed(loop="dispatch", error=error))
            finally:
                self._leave(assignment, running, tasks)
            self._events.emit(
                RequestFinished(
                    request_id=request.request_id,
                    action=request.action,
                    attempt=attempt,
                    outcome=became,
                    code=code,
                    seconds=self._clock.steady() - started,
                    again=again,
                )
            )
        return became

    def _prepare(self, claim: Claim) -> Running | None:
        """Return what is to run; None when there is no handler, or no time for one."""
        handler = self._registry.get(claim.request.action)
        if handler is None or self._draining:
            return None
        running = Running(claim=claim, handler=handler, draining=lambda: self._draining)
        self._running.add(running)
        return running

    async def _work(self, running: Running, tasks: TaskGroup) -> Progress | None:
        """Run the handler until it ends, or was told to and refuses; return the progress that
        the table does not have.
        """
        claim, handler = running.claim, running.handler
        if cancel_version(claim.version) in self._cancelled:
            running.skip(Interruption.CANCELLED)
            return None
        writer = ProgressWriter(
            requests=self._requests,
            claim=claim,
            on_lost=running.lose,
            push=partial(self._announcer.progressed, claim.request),
            tasks=tasks,
            events=self._events,
            clock=self._clock,
            rng=self._rng,
        )
        timeout = self._timeout(running)
        ctx = context_of(
            running,
            writer,
            deadline=self._clock.now() + timedelta(seconds=timeout),
            state=self._caller.state_of(handler),
        )
        tasks.start_soon(running.run, partial(self._caller.call, handler, claim.request, ctx))
        await running.wait(at_most=timeout, grace=self._settings.cancel_grace)
        if not running.is_done:
            self.stuck.add(running)
            self._events.emit(
                HandlerStuck(
                    request_id=claim.request_id,
                    action=claim.request.action,
                    reason=str(running.interruption),
                    thread=handler.in_thread,
                )
            )
        return await writer.close()

    async def _settle(
        self, claim: Claim, running: Running | None, progress: Progress | None
    ) -> tuple[str, Outcome | None]:
        if running is not None and running.interruption in {
            Interruption.CANCELLED,
            Interruption.CLAIM_LOST,
        }:
            if running.interruption is Interruption.CANCELLED:
                self._announcer.cancelled(claim.request)
            return str(running.interruption), None
        ended = self._ended(claim, running)
        if isinstance(ended, Raised):
            ended = Raised(error=verdict_of(ended.error))
            self._tell_raised(claim, ended.error)
        outcome = self._decide(ended, claim, running)
        became, settled = await self._settler.settle(claim, outcome, progress)
        if isinstance(ended, TimedOut) and became in {"failed", "retried"}:
            became = "timeout"
        return became, settled

    def _decide(self, ended: Ended, claim: Claim, running: Running | None) -> Outcome:
        policy = running.handler.retry if running is not None else DEFAULT_RETRY
        judge = partial(decide, request=claim.request, policy=policy, rng=self._rng)
        try:
            return judge(ended)
        except BaseException as error:  # noqa: BLE001  what it returned or raised is its own class
            self._tell_raised(claim, error)
            return judge(Raised(error=RuntimeError(f"its outcome cannot be read: {error!r}")))

    def _ended(self, claim: Claim, running: Running | None) -> Ended:
        if running is None:
            known = claim.request.action in self._registry
            return Interrupted() if known else NoHandler(action=claim.request.action)
        if isinstance(running.ended, Returned):
            return running.ended  # done is done, also when it was told to end
        match running.interruption:
            case Interruption.TIMEOUT:
                return TimedOut(seconds=self._timeout(running))
            case Interruption.RELEASED | Interruption.PAUSED:
                return Interrupted()
            case Interruption.FENCED:
                loss = WorkerLoss(last_seen=self._clock.now(), max_rescues=self._max_rescues)
                return Fenced(loss=loss)
        assert running.ended is not None  # noqa: S101  nothing else ends the wait
        return running.ended

    def _leave(self, assignment: Assignment, running: Running | None, tasks: TaskGroup) -> None:
        """Give the slot back; a thread that runs on keeps it until it ends."""
        if running is not None:
            self._running.discard(running)
        if running not in self.stuck:
            self._slots.give(assignment.slot)
            return
        if running.handler.in_thread:
            self._slots.settle(assignment.slot)
        else:
            self._slots.give(assignment.slot)
        tasks.start_soon(self._await_stuck, assignment, running)

    async def _await_stuck(self, assignment: Assignment, running: Running) -> None:
        await running.wait_done()
        self.stuck.discard(running)
        self._slots.give(assignment.slot)
        self._events.emit(
            StuckHandlerEnded(
                request_id=running.claim.request_id,
                action=running.claim.request.action,
                thread=running.handler.in_thread,
            )
        )

    def _timeout(self, running: Running) -> float:
        return running.handler.timeout or self._settings.timeout

    def _tell_raised(self, claim: Claim, error: BaseException) -> None:
        who: dict[str, Any] = {
            "request_id": claim.request_id,
            "action": claim.request.action,
        }
        if isinstance(error, PayloadInvalid):
            self._events.emit(PayloadRefused(**who, fields=error.paths))
        else:
            self._events.emit(HandlerRaised(**who, error=error))
