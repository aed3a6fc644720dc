"""Whether the worker lives, and whether it is ready, as its events tell."""

from __future__ import annotations

from typing import Final

from streamer_store import Clock
from streamer_worker.events import (
    Event,
    HandlerStuck,
    HeartbeatTried,
    Polled,
    ProcessEnding,
    SlotsChanged,
    StuckHandlerEnded,
    WorkerDraining,
    WorkerStarted,
)
from streamer_worker.settings import Settings

_POLLS_WITHIN: Final = 30.0


class Health:
    """A listener. Its questions may be asked from any thread."""

    def __init__(self, *, settings: Settings, clock: Clock) -> None:
        self._clock = clock
        self._threads = min(settings.handler.threads, settings.concurrency)
        self._lease = settings.presence.lease
        self._polls_within = max(_POLLS_WITHIN, 3 * settings.poll.slowest)
        self._polled = self._beaten = clock.steady()
        self._started = False
        self._draining = False
        self._full = False
        self._threads_lost = 0
        self._ending: str | None = None

    def __call__(self, event: Event) -> None:
        match event:
            case Polled():
                self._polled = self._clock.steady()
            case HeartbeatTried(outcome="beaten"):
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

    def why_not_alive(self) -> list[str]:
        """Return what a restart would mend. Neither an outage of the table nor a handler that
        blocks the loop for a while is among it.
        """
        return [] if self._ending is None else [self._ending]

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
