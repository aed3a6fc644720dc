"""Accepts HTTP connections, with limits on their number, their rate and their lifetime."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Final

import anyio

from streamer_worker.events import Events, StepFailed

if TYPE_CHECKING:
    from collections.abc import Callable

# Prometheus, a supervisor and a load balancer need fewer than ten.
MAX_CONNECTIONS: Final = 64
# Seconds until an accepted connection is closed, also if a response is under way.
LIFETIME: Final = 10.0
# Connections per second, after a burst of BURST. Peers that reconnect all the time cost a few
# per cent of a core at this rate. A burst of silent peers passes without a delay for probes.
RATE: Final = 100.0
BURST: Final = 2_000
# Seconds until the next try when accept() has failed, and between two reports of that.
_PAUSE_AFTER_FAILURE: Final = 1.0
_REPORT_EVERY: Final = 60.0


class Acceptor:
    """Accepts connections of `listening`, each with a protocol that `factory` makes.

    1. At `max_connections` the oldest connection is closed when a new one is accepted. So peers
       that connect and send nothing cannot block probes, which are answered in milliseconds.
    2. A connection is closed after `lifetime` seconds.
    3. After a burst of `burst`, `rate` connections per second are accepted. The others wait in
       the backlog of the socket.
    4. If accept() fails, for example without free descriptors, it is tried again after a second.
       StepFailed is emitted at most once a minute.

    Used only on the event loop of the HTTP thread.
    """

    def __init__(
        self,
        listening: socket.socket,
        factory: Callable[[], asyncio.BaseProtocol],
        *,
        events: Events,
        max_connections: int = MAX_CONNECTIONS,
        lifetime: float = LIFETIME,
        rate: float = RATE,
        burst: int = BURST,
    ) -> None:
        self._listening = listening
        self._factory = factory
        self._events = events
        self._max_connections = max_connections
        self._lifetime = lifetime
        self._rate = rate
        self._burst = burst
        self._allowed = float(burst)
        self._loop = asyncio.get_running_loop()
        self._counted_at = self._loop.time()
        self._open: list[asyncio.Transport] = []
        self._next_report = 0.0

    async def accept(self) -> None:
        """Accept until cancelled."""
        while True:
            await self._wait_for_rate()
            try:
                await self._accept_one()
            except ConnectionError:  # the peer closed it before it was accepted
                continue
            except Exception as error:  # noqa: BLE001  the next accept may succeed
                self._report(error)
                await anyio.sleep(_PAUSE_AFTER_FAILURE)

    async def _wait_for_rate(self) -> None:
        """Wait until the rate allows another connection, and count it."""
        self._refill()
        if self._allowed < 1:
            await anyio.sleep((1 - self._allowed) / self._rate)
            self._refill()
        self._allowed -= 1

    def _refill(self) -> None:
        """Add the connections that the rate has allowed since the last call."""
        now = self._loop.time()
        earned = (now - self._counted_at) * self._rate
        self._allowed = min(float(self._burst), self._allowed + earned)
        self._counted_at = now

    async def _accept_one(self) -> None:
        accepted, _ = await self._loop.sock_accept(self._listening)
        try:
            transport, _ = await self._loop.connect_accepted_socket(self._factory, accepted)
        except BaseException:
            accepted.close()
            raise
        self._admit(transport)

    def close(self) -> None:
        """Close every connection."""
        for transport in self._open:
            transport.abort()

    def _admit(self, transport: asyncio.Transport) -> None:
        self._open = [other for other in self._open if _holds_descriptor(other)]
        if len(self._open) >= self._max_connections:
            self._open.pop(0).abort()
        self._open.append(transport)
        self._loop.call_later(self._lifetime, transport.abort)

    def _report(self, error: Exception) -> None:
        now = self._loop.time()
        if now >= self._next_report:
            self._next_report = now + _REPORT_EVERY
            self._events.emit(StepFailed(loop="http", error=error))


def _holds_descriptor(transport: asyncio.Transport) -> bool:
    """Return whether the transport is open, or is closing with bytes left to send."""
    return not transport.is_closing() or transport.get_write_buffer_size() > 0
