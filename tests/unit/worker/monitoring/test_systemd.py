"""Notifications to systemd, on a real socket."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from manager import Manager
from streamer_worker.events import (
    Event,
    FleetObserved,
    HeartbeatTried,
    LoopLagMeasured,
    ProcessEnding,
    QueueMeasured,
    SlotsChanged,
    StepFailed,
    WorkerDraining,
)
from streamer_worker.monitoring.health import Health
from streamer_worker.monitoring.systemd import Systemd
from streamer_worker.settings import PresenceSettings, Settings
from support import ManualClock
from unit.worker.exposed import started

STARTED = started()
DRAINING = WorkerDraining(worker_id="w", in_flight=1)


class Bench:
    """Health and Systemd of a worker, on a manual clock, with a manager that receives."""

    def __init__(self, manager: Manager) -> None:
        self.manager = manager
        self.clock = ManualClock()
        settings = Settings(presence=PresenceSettings(stuck_after=300))
        self.health = Health(settings=settings, clock=self.clock)
        self.systemd = Systemd(health=self.health, ends_within=58)

    def emit(self, *events: Event) -> None:
        for event in events:
            self.health(event)
            self.systemd(event)

    def pass_time(self, seconds: int, *each_second: Event) -> None:
        for _ in range(seconds):
            self.clock.advance(1)
            self.emit(*each_second)


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Manager]:
    """Yield a manager on a socket in the file system, and on an abstract one."""
    path = str(tmp_path / "notify")
    abstract = request.param == "abstract"
    manager = Manager(f"\0{path}" if abstract else path)
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{path}" if abstract else path)
    monkeypatch.setenv("WATCHDOG_USEC", "150000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    with manager.socket:
        yield manager


@pytest.fixture
def bench(manager: Manager) -> Iterator[Bench]:
    bench = Bench(manager)
    with bench.systemd:
        yield bench


def test_ready_is_sent_once(bench: Bench) -> None:
    """It is not sent before the start: units that depend on the worker wait for it."""
    assert bench.manager.next("STATUS=") == ["STATUS=starting", "WATCHDOG=1"]
    bench.emit(STARTED)
    assert bench.manager.next("READY=1") == ["READY=1"]
    bench.emit(STARTED)  # another incarnation
    for _ in range(3):
        assert not any(line == "READY=1" for line in bench.manager.next(""))


def test_the_status_shows_slots_and_queue(bench: Bench) -> None:
    """The queue is shown while the worker leads, because only the leader counts it."""
    bench.emit(STARTED, SlotsChanged(used=1, total=2))
    bench.emit(QueueMeasured(status="PENDING", count=12, more=True, oldest=1.0))
    bench.emit(QueueMeasured(status="RETRYING", count=0, more=False, oldest=None))
    bench.emit(QueueMeasured(status="RETRYING", count=9, more=False, oldest=None, later=True))
    wanted = "STATUS=working, 1 of 2 slots used, 12+ PENDING, 0 RETRYING"
    assert wanted in bench.manager.next(wanted)
    bench.emit(FleetObserved(live=2, dead=0, leads=False))
    bench.manager.flush()
    bench.manager.next("STATUS=")
    assert bench.manager.next("STATUS=")[0] == "STATUS=working, 1 of 2 slots used"


def test_stopping_is_sent_with_the_time_that_it_may_take(bench: Bench) -> None:
    """The worker asks for more time than the unit has, if its settings need it."""
    bench.emit(STARTED, DRAINING)
    assert bench.manager.next("STOPPING=1") == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=63000000"]
    assert bench.manager.next("STATUS=")[0] == "STATUS=draining"


def test_the_last_notification_is_sent_if_the_context_ends_at_once(manager: Manager) -> None:
    """The context may end before its thread has run."""
    bench = Bench(manager)
    with bench.systemd:
        bench.emit(STARTED, DRAINING)
    assert manager.next("STOPPING=1")


def test_an_outage_of_the_table_feeds_the_watchdog(bench: Bench) -> None:
    """A restart would not help."""
    failed = StepFailed(loop="poll", error=OSError("away"))
    beat = HeartbeatTried(outcome="failed", seconds=1, error=OSError("away"))
    bench.emit(STARTED)
    bench.pass_time(86400, LoopLagMeasured(lag=0), failed, beat)
    bench.manager.flush()
    bench.manager.next("STATUS=")
    assert "WATCHDOG=1" in bench.manager.next("STATUS=")


@pytest.mark.parametrize(
    "still_running",
    [
        (HeartbeatTried(outcome="ok", seconds=0.1),),
        (LoopLagMeasured(lag=0),),
    ],
    ids=["loop", "heartbeat"],
)
def test_a_blocked_loop_does_not_feed_the_watchdog(
    still_running: tuple[Event, ...], bench: Bench
) -> None:
    """This holds for the worker's loop and the heartbeat's. The status names the blocked one."""
    bench.emit(STARTED, LoopLagMeasured(lag=0), HeartbeatTried(outcome="ok", seconds=0.1))
    bench.pass_time(309, *still_running)
    bench.manager.flush()
    bench.manager.next("STATUS=")
    assert "WATCHDOG=1" in bench.manager.next("STATUS=")
    bench.pass_time(2, *still_running)
    bench.manager.flush()
    bench.manager.next("STATUS=")
    (status,) = bench.manager.next("STATUS=")
    assert status.endswith(" for 310 s")


def test_a_process_that_is_ending_does_not_feed_the_watchdog(bench: Bench) -> None:
    """If its end hangs, systemd ends it."""
    bench.emit(STARTED, ProcessEnding(reason="the loop stands", stacks=""))
    bench.manager.flush()
    bench.manager.next("STATUS=")
    assert bench.manager.next("STATUS=") == ["STATUS=the loop stands"]


def test_the_processes_of_handlers_do_not_inherit_the_address(bench: Bench) -> None:
    """They must not send notifications for the worker."""
    assert bench.systemd is not None
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(os.environ)


@pytest.mark.parametrize("usec", ["", "soon", "-1"])
def test_without_a_watchdog_none_is_fed(
    usec: str, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd logs a warning for a notification that it does not expect."""
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    with Bench(manager).systemd:
        assert manager.next("STATUS=") == ["STATUS=starting"]


def test_a_watchdog_of_another_process_is_not_fed(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrapper may have started the worker."""
    monkeypatch.setenv("WATCHDOG_PID", "1")
    with Bench(manager).systemd:
        assert manager.next("STATUS=") == ["STATUS=starting"]


def test_a_missing_manager_is_ignored(manager: Manager) -> None:
    """The notification is lost, and the worker continues."""
    bench = Bench(manager)
    manager.socket.close()
    with bench.systemd:
        bench.emit(STARTED, DRAINING)
    assert not bench.systemd._thread.is_alive()


def test_without_systemd_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread runs in a container or on a terminal."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    health = Health(settings=Settings(), clock=ManualClock())
    systemd = Systemd(health=health, ends_within=1)
    with systemd:
        systemd(STARTED)
        assert not systemd._thread.is_alive()
