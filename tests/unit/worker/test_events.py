"""Telling listeners."""

from __future__ import annotations

import structlog
from structlog.testing import capture_logs

from streamer_worker.events import Event, Events, WorkerStopped
from unit.worker.harness import Recorder

STOPPED = WorkerStopped(worker_id="me")


def test_every_listener_hears_every_event_in_order() -> None:
    """One after another, as they were named."""
    heard: list[tuple[str, Event]] = []
    events = Events(
        lambda event: heard.append(("first", event)), lambda event: heard.append(("second", event))
    )
    events.emit(STOPPED)
    assert heard == [("first", STOPPED), ("second", STOPPED)]


def test_a_listener_that_fails_is_logged_and_harms_nobody() -> None:
    """The event reaches the others, and the emitter goes on."""
    recorder = Recorder()

    def broken(_event: Event) -> None:
        raise RuntimeError("no disk")

    structlog.reset_defaults()
    with capture_logs() as logs:
        Events(broken, recorder).emit(STOPPED)
    assert recorder.events == [STOPPED]
    assert [(each["event"], each["about"]) for each in logs] == [
        ("listener_failed", "WorkerStopped")
    ]


def test_without_listeners_nothing_happens() -> None:
    """Components can be used alone."""
    Events().emit(STOPPED)
