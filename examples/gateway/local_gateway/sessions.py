"""The open WebSockets, with a bounded queue of messages for each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import anyio
from aiohttp import ClientConnectionResetError, web

from local_gateway.routes import Caller

# Bytes of messages that may wait for a client, and the bytes that each takes besides its text.
MAX_WAITING: Final = 1_000_000
_OVERHEAD: Final = 100


@dataclass(frozen=True, slots=True)
class Close:
    """Ends the queue of a session: the WebSocket is closed with this code of RFC 6455."""

    code: int
    reason: str


class Session:
    """One WebSocket, from before its handshake until it is closed.

    `offer` and `close` do not wait for the client. A client that does not read its messages is cut
    off when MAX_WAITING bytes wait.
    """

    def __init__(
        self, *, caller: Caller, request: web.Request, socket: web.WebSocketResponse, now: datetime
    ) -> None:
        self.caller = caller
        self.connected_at = now
        self.last_active_at = now
        self.source_ip = request.remote or ""
        self.user_agent = request.headers.get("User-Agent", "")
        self.socket = socket
        self._transport = request.transport
        self._waiting = 0
        self._open = True
        self._put, self._queue = anyio.create_memory_object_stream[str | Close](math.inf)

    def offer(self, text: str) -> bool:
        """Queue a message. Returns False if the session is closed, or is cut off now."""
        size = len(text) + _OVERHEAD
        if self._open and self._waiting + size > MAX_WAITING:
            self.cut_off()
        if not self._open:
            return False
        self._waiting += size
        self._put.send_nowait(text)
        return True

    def close(self, code: int, reason: str) -> None:
        """Close the WebSocket after the messages that wait. RFC 6455 has the codes."""
        if self._open:
            self._open = False
            self._put.send_nowait(Close(code, reason))

    def cut_off(self) -> None:
        """Close the TCP connection at once. The messages that wait are dropped."""
        self._open = False
        if self._transport is not None:
            self._transport.abort()

    async def write_messages(self) -> None:
        """Send what is queued until the WebSocket is closed."""
        async for message in self._queue:
            if isinstance(message, Close):
                await self.socket.close(code=message.code, message=message.reason.encode())
                return
            try:
                await self.socket.send_str(message)
            except ClientConnectionResetError:
                return
            self._waiting -= len(message) + _OVERHEAD

    def end(self) -> None:
        """Accept no more messages, and free the queue."""
        self._open = False
        self._put.close()
        self._queue.close()


class Sessions:
    """The sessions by the ids of their connections."""

    def __init__(self) -> None:
        self._by_id: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._by_id.values()))

    def add(self, session: Session) -> None:
        self._by_id[session.caller.connection_id] = session

    def remove(self, session: Session) -> None:
        del self._by_id[session.caller.connection_id]
        session.end()

    def get(self, connection_id: str) -> Session | None:
        return self._by_id.get(connection_id)
