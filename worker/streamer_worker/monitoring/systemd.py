"""What systemd is told: that the worker is ready, what it does, that it lives, that it stops."""

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

_STATUS_EVERY: Final = 5.0
_FEEDS_PER_WATCHDOG: Final = 3
_SHORTEST: Final = 0.02
_SEND_WITHIN: Final = 1.0
_MARGIN: Final = 5.0
_MICROSECONDS: Final = 1_000_000


class Systemd:
    """A listener, and a context. In it, the service manager is told, where one has started us
    (sd_notify(3)). The watchdog is fed by a thread, and only while `health` says that the worker
    lives: a plain timer would keep a frozen one. `ends_within`: the longest end, in seconds.
    """

    def __init__(self, *, health: Health, ends_within: float) -> None:
        self._health = health
        self._ends_within = ends_within
        # They are not meant for the processes of handlers.
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        self._watchdog = _watchdog()
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._channel.settimeout(_SEND_WITHIN)
        self._thread = threading.Thread(target=self._run, name="systemd", daemon=True)
        self._news = threading.Event()
        self._ended = False
        self._ready = False
        self._stopping = False
        self._slots = ""
        self._queue: dict[str, str] = {}
        self._sent: set[str] = set()

    def __enter__(self) -> None:
        if self._address:
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        if self._address:
            self._ended = True
            self._news.set()
            self._thread.join()
        self._channel.close()

    def __call__(self, event: Event) -> None:
        match event:
            case WorkerStarted():
                self._ready = True
                self._news.set()
            case WorkerDraining():
                self._stopping = True
                self._news.set()
            case SlotsChanged(used=used, total=total):
                self._slots = f"{used} of {total} slots used"
            case QueueMeasured(status=status, count=count, more=more):
                # A new one each time: the thread may be looking at the old one.
                self._queue = {**self._queue, status: f"{count}{'+' if more else ''} {status}"}
            case FleetObserved(leads=False):
                self._queue = {}
            case _:
                pass

    def _run(self) -> None:
        every = _STATUS_EVERY
        if self._watchdog is not None:
            every = max(_SHORTEST, min(every, self._watchdog / _FEEDS_PER_WATCHDOG))
        last = False
        while not last:
            last = self._ended
            self._tell()
            if not last:
                self._news.wait(every)
                self._news.clear()

    def _tell(self) -> None:
        reasons = self._health.why_not_alive()
        if self._ready:
            self._send_once("READY=1")
        if self._stopping:
            usec = round((self._ends_within + _MARGIN) * _MICROSECONDS)
            self._send_once(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={usec}")
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
        except OSError:  # the manager is away for a moment, or the socket is none
            return False
        return True


def _path(address: str) -> str:
    return f"\0{address[1:]}" if address.startswith("@") else address


def _watchdog() -> float | None:
    """Return the watchdog's time in seconds, if it is meant for this process."""
    microseconds = os.environ.pop("WATCHDOG_USEC", "")
    process = os.environ.pop("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or process not in {"", str(os.getpid())}:
        return None
    return int(microseconds) / _MICROSECONDS
