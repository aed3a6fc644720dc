"""Metrics of what controls the fleet: rate limits, pauses and schedules."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from streamer_store import PauseKind
from streamer_worker.events import (
    Event,
    PauseEnded,
    PauseStarted,
    RateLimitMeasured,
    ScheduleTicked,
    ScheduleTicksMissed,
)
from streamer_worker.monitoring.metric_families import ACTION_CHARS, Families
from streamer_worker.sanitize import one_line


class ControlMetrics:
    """Counts these events, and ignores others.

    - `action_label`: returns the label of an action.
    - `now`: returns the time, in seconds since 1970.
    """

    def __init__(
        self,
        families: Families,
        *,
        action_label: Callable[[str | None], str],
        now: Callable[[], float],
    ) -> None:
        self._families = families
        self._action_label = action_label
        self._now = now

    def __call__(self, event: Event) -> None:
        match event:
            case RateLimitMeasured():
                self._count_permits(event)
            case PauseStarted() | PauseEnded():
                self._show_pause(event)
            case ScheduleTicked(schedule=schedule, late=late):
                self._families.ticks.labels(schedule).inc()
                self._families.last_tick.labels(schedule).set(self._now())
                if late is not None:
                    self._families.tick_lateness.observe(late)
            case ScheduleTicksMissed(schedule=schedule, count=count, paused=paused):
                reason = "paused" if paused else "late"
                self._families.missed_ticks.labels(schedule, reason).inc(count)
                if not paused:
                    self._families.last_miss.labels(schedule).set(self._now())
            case _:
                pass

    def _count_permits(self, event: RateLimitMeasured) -> None:
        action = self._action_label(event.action)
        scope = "tenant" if event.per_tenant else "action"
        counts = {
            "granted": event.granted,
            "refused": event.refused,
            "expired": event.expired,
        }
        for result, count in counts.items():
            self._families.permits.labels(action, scope, result).inc(count)
        self._families.saturated.labels(action, scope).inc(event.saturated)

    def _show_pause(self, event: PauseStarted | PauseEnded) -> None:
        """Show a pause. Tenants are counted, and not named."""
        if event.kind == PauseKind.TENANT:
            self._families.paused.labels(event.kind, "").set(event.in_force)
            return
        labels = event.kind, one_line(event.name, ACTION_CHARS)
        if isinstance(event, PauseStarted):
            self._families.paused.labels(*labels).set(1)
        else:
            with suppress(KeyError):  # the name of another one was cut to the same text
                self._families.paused.remove(*labels)
