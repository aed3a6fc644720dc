"""Notifies systemd of the worker's state, and feeds the watchdog of its unit."""

from __future__ import annotations

import os
import socket
import threading
from typing import Final

from streamer_worker.events import (
    Event,
    FleetObserved,
    QueueMeasured,
    SlotsChanged,
    WorkerDraining,
    WorkerStarted,
)
from streamer_worker.monitoring.health import Health

# Seconds between two notifications. A watchdog is fed at least three times in its interval.
_NOTIFY_EVERY: Final = 5.0
_FEEDS_PER_WATCHDOG: Final = 3
_SHORTEST: Final = 0.02
# Seconds that sending may block, and that the worker asks for beyond its own limits.
_SEND_WITHIN: Final = 1.0
_MARGIN: Final = 5.0
_MICROSECONDS: Final = 1_000_000
_NOTED: Final = frozenset(
    {FleetObserved, QueueMeasured, SlotsChanged, WorkerDraining, WorkerStarted}
)


class Systemd:
    """A listener, and a context in which a thread notifies systemd (sd_notify(3)).

    Without the variable NOTIFY_SOCKET it does nothing. The watchdog is fed only while `health`
    says that the worker is alive: fed by a timer alone, a blocked worker would never be ended.

    ends_within: seconds that the worker needs to stop, at most.

    Events come from the worker's loop and from the heartbeat thread. The systemd thread reads
    the fields that they write, without a lock: each is assigned whole.
    """

    def __init__(self, *, health: Health, ends_within: float) -> None:
        self._health = health
        self._ends_within = ends_within
        # Removed from the environment: the processes of handlers must not inherit them.
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        self._watchdog = _watchdog()
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._channel.settimeout(_SEND_WITHIN)
        self._thread = threading.Thread(target=self._run, name="systemd", daemon=True)
        # Set by the other threads to wake the systemd thread, which clears it.
        self._wakeup = threading.Event()
        # Written by `__exit__`.
        self._ended = False
        # Written by the worker's loop, `_queue` also by the heartbeat thread.
        self._ready = False
        self._stopping = False
        self._slots = ""
        self._queue: dict[str, str] = {}
        # Of the systemd thread alone.
        self._sent: set[str] = set()

    def __enter__(self) -> None:
        if self._address:
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        if self._address:
            self._ended = True
            self._wakeup.set()
            self._thread.join()
        self._channel.close()

    def __call__(self, event: Event) -> None:
        if type(event) in _NOTED:
            self._note(event)

    def _note(self, event: Event) -> None:
        match event:
            case SlotsChanged(used=used, total=total):  # the only one of each request
                self._slots = f"{used} of {total} slots used"
            case WorkerStarted():
                self._ready = True
                self._wakeup.set()
            case WorkerDraining():
                self._stopping = True
                self._wakeup.set()
            case QueueMeasured(status=status, count=count, more=more, later=False):
                # A new dict each time: the systemd thread may be reading the old one.
                self._queue = {**self._queue, status: f"{count}{'+' if more else ''} {status}"}
            case FleetObserved(leads=False):
                self._queue = {}
            case _:
                pass

    def _run(self) -> None:
        """Notify systemd until the context ends. Runs on the systemd thread."""
        every = _NOTIFY_EVERY
        if self._watchdog is not None:
            every = max(_SHORTEST, min(every, self._watchdog / _FEEDS_PER_WATCHDOG))
        last = False
        while not last:
            last = self._ended
            self._notify()
            if not last:
                self._wakeup.wait(every)
                self._wakeup.clear()

    def _notify(self) -> None:
        reasons = self._health.why_not_alive()
        if self._ready:
            self._send_once("READY=1")
        if self._stopping:
            microseconds = round((self._ends_within + _MARGIN) * _MICROSECONDS)
            self._send_once(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={microseconds}")
        self._send("\n".join([f"STATUS={self._status(reasons)}", *self._feed(reasons)]))

    def _feed(self, reasons: list[str]) -> list[str]:
        return ["WATCHDOG=1"] if self._watchdog is not None and not reasons else []

    def _status(self, reasons: list[str]) -> str:
        if reasons:
            return "; ".join(reasons)
        state = "draining" if self._stopping else "working" if self._ready else "starting"
        return ", ".join([state, *filter(None, [self._slots]), *self._queue.values()])

    def _send_once(self, text: str) -> None:
        if text not in self._sent and self._send(text):
            self._sent.add(text)

    def _send(self, text: str) -> bool:
        try:
            self._channel.sendto(text.encode(), _path(self._address))
        except OSError:  # systemd restarts, or the address is not a socket
            return False
        return True


def _path(address: str) -> str:
    """Return the address as `sendto` needs it: @ stands for an abstract socket."""
    return f"\0{address[1:]}" if address.startswith("@") else address


def _watchdog() -> float | None:
    """Return the watchdog's interval in seconds. None: there is none for this process."""
    microseconds = os.environ.pop("WATCHDOG_USEC", "")
    process = os.environ.pop("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or process not in {"", str(os.getpid())}:
        return None
    return int(microseconds) / _MICROSECONDS
