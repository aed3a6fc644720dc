"""Whether the worker lives, and whether it is ready, as its events tell."""

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

_POLLS_WITHIN: Final = 30.0
# The loop's own watch ends the process first, and logs what held it.
_AFTER_STUCK: Final = 10.0
# The longest pause after a failed poll, and the longest that its calls and claims may take.
_POLL_TAKES: Final = 600.0


class Health:
    """A listener. Its questions may be asked from any thread."""

    def __init__(self, *, settings: Settings, clock: Clock) -> None:
        self._clock = clock
        self._threads = min(settings.handler.threads, settings.concurrency)
        self._lease = settings.presence.lease
        self._polls_within = max(_POLLS_WITHIN, 3 * settings.poll.max_interval)
        self._stuck_after = settings.presence.stuck_after + _AFTER_STUCK
        self._polled = self._beaten = clock.steady()
        # When each was last seen; None while it need not be: there is no row, or no slot.
        self._turned: float | None = None
        self._beat_tried: float | None = None
        self._poll_tried: float | None = None
        self._started = False
        self._draining = False
        self._full = False
        self._threads_lost = 0
        self._ending: str | None = None

    def __call__(self, event: Event) -> None:
        self._note_turn(event)
        match event:
            case Polled(outcome="claimed" | "empty"):
                self._polled = self._clock.steady()
            case HeartbeatTried(outcome="ok"):
                self._beaten = self._clock.steady()
            case SlotsChanged(used=used, total=total):
                if self._full:  # nobody could poll until now
                    self._polled = self._clock.steady()
                self._full = used >= total
            case HandlerStuck(thread=True):
                self._threads_lost += 1
            case StuckHandlerEnded(thread=True):
                self._threads_lost -= 1
            case ProcessEnding(reason=reason):
                self._ending = reason
            case WorkerStarted():
                self._started = True
                self._polled = self._beaten = self._clock.steady()
            case WorkerDraining():
                self._draining = True
            case _:
                pass

    def _note_turn(self, event: Event) -> None:
        """Note that a loop turns; whether its attempt succeeded is another question."""
        match event:
            case LoopLagMeasured():
                self._turned = self._clock.steady()
            case HeartbeatTried():
                self._beat_tried = self._clock.steady()
            case Polled() | StepFailed(loop="poll"):
                self._poll_tried = self._clock.steady()
            case SlotsChanged():
                # A poll that waits for a slot begins when there is one.
                self._poll_tried = None if self._poll_tried is None else self._clock.steady()
            case WorkerDraining():
                self._poll_tried = None
            case WorkerFenced():  # until it has a row again, nothing is due
                self._turned = self._beat_tried = self._poll_tried = None
            case _:
                pass

    def why_not_alive(self) -> list[str]:
        """Return what a restart would mend: a loop that stands, an attempt that never returns.
        Neither an outage of the table nor a handler that blocks the loop for a while is.
        """
        reasons = [] if self._ending is None else [self._ending]
        poll_tried = None if self._full else self._poll_tried
        for what, seen, longest in (
            ("the event loop has not turned", self._turned, self._stuck_after),
            ("no heartbeat has come to an end", self._beat_tried, self._stuck_after),
            ("no poll has come to an end", poll_tried, self._stuck_after + _POLL_TAKES),
        ):
            if seen is not None and self._clock.steady() - seen > longest:
                reasons.append(f"{what} for {longest:g} s")
        return reasons

    def why_not_ready(self) -> list[str]:
        """Return what keeps the worker from taking requests; nothing when it is ready."""
        now = self._clock.steady()
        reasons = []
        if not self._started:
            reasons.append("not started yet")
        if self._draining:
            reasons.append("draining")
        if self._threads_lost >= self._threads:
            lost = self._threads_lost
            reasons.append(f"no thread is free: {lost} are held by handlers that do not end")
        if self._started and not self._full and now - self._polled > self._polls_within:
            reasons.append(f"no poll succeeded for {self._polls_within:g} s")
        if self._started and now - self._beaten > self._lease:
            reasons.append(f"no heartbeat succeeded for {self._lease:g} s")
        return reasons
