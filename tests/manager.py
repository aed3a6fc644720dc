"""The part of systemd that services talk to, played on a real socket."""

from __future__ import annotations

import socket
from typing import Final

PATIENCE: Final = 20.0


class Manager:
    """Systemd's end of the socket."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(PATIENCE)

    def next(self, wanted: str) -> list[str]:
        """Return the lines of the next message that has one beginning with `wanted`."""
        while True:
            lines = self.socket.recv(4096).decode().splitlines()
            if any(line.startswith(wanted) for line in lines):
                return lines

    def is_silent(self, seconds: float) -> bool:
        """Return whether nothing comes for that long."""
        self.socket.settimeout(seconds)
        try:
            self.socket.recv(4096)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(PATIENCE)
        return False

    def flush(self) -> None:
        """Forget what has come."""
        self.socket.settimeout(0)
        try:
            while True:
                self.socket.recv(4096)
        except BlockingIOError:
            self.socket.settimeout(PATIENCE)
