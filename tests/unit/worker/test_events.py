"""Events reach every listener, and each event is documented."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
import structlog
from structlog.testing import capture_logs

import streamer_worker
from streamer_store import CacheUsed, CallEnded, TryFailed
from streamer_worker.events import Event, Events, WorkerStopped
from unit.worker.harness import Recorder

WORKER = Path(streamer_worker.__file__).parent
STOPPED = WorkerStopped(worker_id="me")
# The same in all events, and explained once.
COMMON = {"worker_id", "request_id", "action", "attempt"}
OWN_EVENTS = [kind for kind in get_args(Event) if kind not in {CacheUsed, CallEnded, TryFailed}]


def test_every_listener_receives_every_event_in_order() -> None:
    """Listeners are called one after another, in the order of the constructor."""
    received: list[tuple[str, Event]] = []
    events = Events(
        lambda event: received.append(("first", event)),
        lambda event: received.append(("second", event)),
    )
    events.emit(STOPPED)
    assert received == [("first", STOPPED), ("second", STOPPED)]


def test_a_listener_that_raises_is_logged_and_harms_nobody() -> None:
    """The event reaches the other listeners, and `emit` does not raise."""
    recorder = Recorder()

    def broken(_event: Event) -> None:
        raise RuntimeError("no disk")

    structlog.reset_defaults()
    with capture_logs() as logs:
        Events(broken, recorder).emit(STOPPED)
    assert recorder.events == [STOPPED]
    assert [(line["event"], line["event_type"]) for line in logs] == [
        ("listener_failed", "WorkerStopped")
    ]


def test_without_listeners_nothing_happens() -> None:
    """Events without listeners can be emitted, so components can be used alone."""
    Events().emit(STOPPED)


@pytest.mark.parametrize("kind", OWN_EVENTS)
def test_each_event_says_who_emits_it_and_what_its_fields_mean(kind: type[Event]) -> None:
    """The docstring names the emitter, and has a line for each field that is not common."""
    text = kind.__doc__ or ""
    explained = {line.partition(":")[0].strip() for line in text.splitlines() if ":" in line}
    emitted = re.search(r"[Ee]mitted.*?\.(?=\s|$)", text, re.DOTALL)
    assert emitted is not None
    emitters = re.findall(r"`([\w.-]+(?: run)?)`", emitted.group())
    assert emitters
    for emitter in set(emitters) - {"streamer-worker run"}:
        path = WORKER / emitter.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").is_file(), emitter
    assert {field.name for field in fields(kind)} - COMMON - explained == set()
