"""Judges from events whether the worker is alive, and whether it is ready."""

from __future__ import annotations

from typing import Final

from streamer_store import Clock
from streamer_worker.events import (
    Event,
    HandlerStuck,
    HeartbeatTried,
    LoopLagMeasured,
    Polled,
    ProcessEnding,
    SlotsChanged,
    StepFailed,
    StuckHandlerEnded,
    WorkerDraining,
    WorkerFenced,
    WorkerStarted,
)
from streamer_worker.settings import Settings

# Seconds without a successful poll after which a worker is not ready.
_POLLS_WITHIN: Final = 30.0
# Seconds that the loop watchdog has to end the process first: it logs the blocking stack.
_AFTER_STUCK: Final = 10.0
# Seconds that one poll may take: the pause after a failed poll, its calls and its claims.
_POLL_TAKES: Final = 600.0

_NOTED: Final = frozenset(
    {
        HandlerStuck,
        HeartbeatTried,
        LoopLagMeasured,
        Polled,
        ProcessEnding,
        StepFailed,
        StuckHandlerEnded,
        WorkerDraining,
        WorkerFenced,
        WorkerStarted,
    }
)


class Health:
    """A listener that answers /healthz and /readyz.

    The threads that emit events write its fields, as noted at each field. The HTTP thread and the
    systemd thread read all fields without a lock. Each field is assigned whole, and an answer may
    be one event old. All times are those of the steady clock.
    """

    def __init__(self, *, settings: Settings, clock: Clock) -> None:
        self._clock = clock
        self._threads = min(settings.handler.threads, settings.concurrency)
        self._lease = settings.presence.lease
        self._polls_within = max(_POLLS_WITHIN, 3 * settings.poll.max_interval)
        self._stuck_after = settings.presence.stuck_after + _AFTER_STUCK
        # The last successes. Written by the worker's loop, `_heartbeat_at` by the heartbeat thread
        # and, when the worker starts, by the loop.
        self._polled_at = self._heartbeat_at = clock.steady()
        # The last signs of life. None: not expected now, because there is no row or no free slot.
        # Written by the worker's loop, `_heartbeat_tried_at` also by the heartbeat thread.
        self._loop_ran_at: float | None = None
        self._heartbeat_tried_at: float | None = None
        self._poll_tried_at: float | None = None
        # Written by the worker's loop.
        self._started = False
        self._draining = False
        self._full = False
        self._threads_lost = 0
        # Written once, by whichever thread ends the process.
        self._ending: str | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, SlotsChanged):  # the only one of each request
            self._note_slots(event)
        elif type(event) in _NOTED:
            self._note_sign_of_life(event)
            self._note_state(event)

    def _note_slots(self, event: SlotsChanged) -> None:
        now = self._clock.steady()
        # The time of a poll that waits for a slot counts from when there is one.
        if self._poll_tried_at is not None:
            self._poll_tried_at = now
        if self._full:  # until now there was no slot to poll for
            self._polled_at = now
        self._full = event.used >= event.total

    def _note_state(self, event: Event) -> None:
        match event:
            case Polled(outcome="claimed" | "empty"):
                self._polled_at = self._clock.steady()
            case HeartbeatTried(outcome="ok"):
                self._heartbeat_at = self._clock.steady()
            case HandlerStuck(thread=True):
                self._threads_lost += 1
            case StuckHandlerEnded(thread=True):
                self._threads_lost -= 1
            case ProcessEnding(reason=reason):
                self._ending = reason
            case WorkerStarted():
                self._started = True
                self._polled_at = self._heartbeat_at = self._clock.steady()
            case WorkerDraining():
                self._draining = True
            case _:
                pass

    def _note_sign_of_life(self, event: Event) -> None:
        """Note when a loop has ended a step, whether it succeeded or not."""
        match event:
            case LoopLagMeasured():
                self._loop_ran_at = self._clock.steady()
            case HeartbeatTried():
                self._heartbeat_tried_at = self._clock.steady()
            case Polled() | StepFailed(loop="poll"):
                self._poll_tried_at = self._clock.steady()
            case WorkerDraining():
                self._poll_tried_at = None
            case WorkerFenced():  # nothing is expected until there is a new row
                self._loop_ran_at = self._heartbeat_tried_at = self._poll_tried_at = None
            case _:
                pass

    def why_not_alive(self) -> list[str]:
        """Return the reasons for a restart: a blocked loop, or a call that never returns.

        An outage of the table is none, nor is a handler that blocks the loop for a short time.
        May be called from any thread.
        """
        reasons = [] if self._ending is None else [self._ending]
        poll_tried_at = None if self._full else self._poll_tried_at
        for text, seen_at, limit in (
            ("the event loop has been blocked", self._loop_ran_at, self._stuck_after),
            ("no heartbeat has ended", self._heartbeat_tried_at, self._stuck_after),
            ("no poll has ended", poll_tried_at, self._stuck_after + _POLL_TAKES),
        ):
            if seen_at is not None and self._clock.steady() - seen_at > limit:
                reasons.append(f"{text} for {limit:g} s")
        return reasons

    def why_not_ready(self) -> list[str]:
        """Return the reasons why the worker claims no requests. Empty: it is ready.

        May be called from any thread.
        """
        now = self._clock.steady()
        reasons = []
        if not self._started:
            reasons.append("not started yet")
        if self._draining:
            reasons.append("draining")
        if self._threads_lost >= self._threads:
            lost = self._threads_lost
            reasons.append(f"no thread is free: {lost} are used by stuck handlers")
        if self._started and not self._full and now - self._polled_at > self._polls_within:
            reasons.append(f"no poll succeeded for {self._polls_within:g} s")
        if self._started and now - self._heartbeat_at > self._lease:
            reasons.append(f"no heartbeat succeeded for {self._lease:g} s")
        return reasons
