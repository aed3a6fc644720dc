"""What systemd is told, on a real socket."""

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
    WorkerStarted,
)
from streamer_worker.monitoring.health import Health
from streamer_worker.monitoring.systemd import Systemd
from streamer_worker.settings import PresenceSettings, Settings
from support import ManualClock

STARTED = WorkerStarted(worker_id="w", actions=(), concurrency=2, metrics_url=None)
DRAINING = WorkerDraining(worker_id="w", in_flight=1)


class Bench:
    """A worker's health on a clock of its own, told to a manager."""

    def __init__(self, manager: Manager) -> None:
        self.manager = manager
        self.clock = ManualClock()
        settings = Settings(presence=PresenceSettings(stuck_after=300))
        self.health = Health(settings=settings, clock=self.clock)
        self.systemd = Systemd(health=self.health, ends_within=58)

    def tell(self, *events: Event) -> None:
        for event in events:
            self.health(event)
            self.systemd(event)

    def pass_time(self, seconds: int, *each_second: Event) -> None:
        for _ in range(seconds):
            self.clock.advance(1)
            self.tell(*each_second)


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Manager]:
    """Give a manager on a socket in the file system, and on an abstract one."""
    path = str(tmp_path / "notify")
    abstract = request.param == "abstract"
    made = Manager(f"\0{path}" if abstract else path)
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{path}" if abstract else path)
    monkeypatch.setenv("WATCHDOG_USEC", "150000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    with made.socket:
        yield made


@pytest.fixture
def bench(manager: Manager) -> Iterator[Bench]:
    made = Bench(manager)
    with made.systemd:
        yield made


def test_it_is_told_once_that_the_worker_is_ready(bench: Bench) -> None:
    """Not before: units that come after it wait for that."""
    assert bench.manager.next("STATUS=") == ["STATUS=starting", "WATCHDOG=1"]
    bench.tell(STARTED)
    assert bench.manager.next("READY=1") == ["READY=1"]
    bench.tell(STARTED)  # another incarnation
    for _ in range(3):
        assert not any(line == "READY=1" for line in bench.manager.next(""))


def test_its_status_shows_slots_and_queue(bench: Bench) -> None:
    """The queue while the worker leads: it counts it then."""
    bench.tell(STARTED, SlotsChanged(used=1, total=2))
    bench.tell(QueueMeasured(status="PENDING", count=12, more=True, oldest=1.0))
    bench.tell(QueueMeasured(status="RETRYING", count=0, more=False, oldest=None))
    wanted = "STATUS=working, 1 of 2 slots used, 12+ PENDING, 0 RETRYING"
    assert wanted in bench.manager.next(wanted)
    bench.tell(FleetObserved(live=2, dead=0, leads=False))
    bench.manager.flush()
    bench.manager.next("STATUS=")
    assert bench.manager.next("STATUS=")[0] == "STATUS=working, 1 of 2 slots used"


def test_it_is_told_that_the_worker_stops_and_how_long_that_may_take(bench: Bench) -> None:
    """Longer than the unit says, where the settings are longer."""
    bench.tell(STARTED, DRAINING)
    assert bench.manager.next("STOPPING=1") == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=63000000"]
    assert bench.manager.next("STATUS=")[0] == "STATUS=draining"


def test_the_last_word_is_said_also_when_all_is_over_at_once(manager: Manager) -> None:
    """The context may end before its thread has looked."""
    bench = Bench(manager)
    with bench.systemd:
        bench.tell(STARTED, DRAINING)
    assert manager.next("STOPPING=1")


def test_an_outage_of_the_table_feeds_the_watchdog(bench: Bench) -> None:
    """A restart would not mend it."""
    failed = StepFailed(loop="poll", error=OSError("away"))
    beat = HeartbeatTried(outcome="failed", seconds=1, error=OSError("away"))
    bench.tell(STARTED)
    bench.pass_time(86400, LoopLagMeasured(lag=0), failed, beat)
    bench.manager.flush()
    bench.manager.next("STATUS=")
    assert "WATCHDOG=1" in bench.manager.next("STATUS=")


@pytest.mark.parametrize(
    "turning",
    [
        (HeartbeatTried(outcome="ok", seconds=0.1),),
        (LoopLagMeasured(lag=0),),
    ],
    ids=["loop", "heartbeat"],
)
def test_a_frozen_loop_does_not_feed_the_watchdog(turning: tuple[Event, ...], bench: Bench) -> None:
    """Neither the worker's own nor the heartbeat's; the status says which."""
    bench.tell(STARTED, LoopLagMeasured(lag=0), HeartbeatTried(outcome="ok", seconds=0.1))
    bench.pass_time(309, *turning)
    bench.manager.flush()
    bench.manager.next("STATUS=")
    assert "WATCHDOG=1" in bench.manager.next("STATUS=")
    bench.pass_time(2, *turning)
    bench.manager.flush()
    bench.manager.next("STATUS=")
    (status,) = bench.manager.next("STATUS=")
    assert status.endswith(" for 310 s")


def test_a_process_that_is_ending_does_not_feed_it(bench: Bench) -> None:
    """Should its end hang, systemd ends it."""
    bench.tell(STARTED, ProcessEnding(reason="the loop stands", stacks=""))
    bench.manager.flush()
    bench.manager.next("STATUS=")
    assert bench.manager.next("STATUS=") == ["STATUS=the loop stands"]


def test_the_processes_of_handlers_are_not_told_the_address(bench: Bench) -> None:
    """They must not speak for the worker."""
    assert bench.systemd is not None
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(os.environ)


@pytest.mark.parametrize("usec", ["", "soon", "-1"])
def test_without_a_watchdog_none_is_fed(
    usec: str, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Systemd warns of what it did not ask for."""
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    with Bench(manager).systemd:
        assert manager.next("STATUS=") == ["STATUS=starting"]


def test_a_watchdog_for_another_process_is_not_ours(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a wrapper has started us."""
    monkeypatch.setenv("WATCHDOG_PID", "1")
    with Bench(manager).systemd:
        assert manager.next("STATUS=") == ["STATUS=starting"]


def test_a_manager_that_is_gone_is_no_trouble(manager: Manager) -> None:
    """What is told is lost; the worker goes its way."""
    bench = Bench(manager)
    manager.socket.close()
    with bench.systemd:
        bench.tell(STARTED, DRAINING)
    assert not bench.systemd._thread.is_alive()


def test_without_systemd_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container, on a terminal."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    health = Health(settings=Settings(), clock=ManualClock())
    systemd = Systemd(health=health, ends_within=1)
    with systemd:
        systemd(STARTED)
        assert not systemd._thread.is_alive()
