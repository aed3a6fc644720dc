"""One child process, from the worker's side."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import Final

import anyio
from anyio import from_thread
from anyio.abc import Process
from anyio.lowlevel import EventLoopToken

from streamer_worker.execution.processes.protocol import Message, WorkerCrashed, receive, send
from streamer_worker.sanitize import message_of

_KILL_TIMEOUT: Final = 5.0
_MAX_SENDING_THREADS: Final = 100
# Progress may come while the worker waits for the table: ten messages a second, of 400 KB each.
_MAX_INBOX: Final = 8
# The process, the inbox or the event loop has ended.
_ENDS: Final = (
    EOFError,
    OSError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    RuntimeError,
    CancelledError,
)


class ChildProcess:
    """One process, which runs one call at a time. `inbox` has its messages, and ends when the
    process has ended. Event loop's thread only, except `listen` and `leave_to_parent`.
    """

    def __init__(self, process: Process, connection: Connection) -> None:
        self.process = process
        self.busy = True
        self._connection = connection
        self._send, self.inbox = anyio.create_memory_object_stream[Message](_MAX_INBOX)
        self._senders = anyio.CapacityLimiter(_MAX_SENDING_THREADS)
        self._send_lock = threading.Lock()
        # Why a message of the process could not be read. Written by the thread that listens.
        self._unreadable: str | None = None

    def listen(self, token: EventLoopToken) -> None:
        """Receive messages into `inbox` until the process or the event loop has ended. Runs in a
        thread of its own, since a process may stop in the middle of a message.

        While `inbox` is full nothing is received, and the process waits before it sends more. A
        message that cannot be unpickled here ends `inbox`, too.
        """
        with suppress(*_ENDS):
            while True:
                try:
                    message = receive(self._connection)
                except _ENDS:
                    break
                except BaseException as error:  # noqa: BLE001  a class of the handler may do anything
                    self._unreadable = message_of(error)
                    from_thread.run_sync(self._send.close, token=token)
                    break
                from_thread.run(self._send.send, message, token=token)
        self._connection.close()

    async def watch(self) -> None:
        """Wait for the end of the process, and end `inbox`."""
        await self.process.wait()
        self._send.close()

    async def send(self, message: Message) -> None:
        """Send a message, and wait while the pipe is full. Raises WorkerCrashed when the process is
        gone.
        """
        call = partial(self._send_whole, message)
        try:
            await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._senders)
        except OSError as error:
            with anyio.move_on_after(_KILL_TIMEOUT):
                await self.process.wait()
            raise WorkerCrashed(self.ended) from error

    def _send_whole(self, message: Message) -> None:
        with self._send_lock:  # a cancelled send still finishes its message
            send(self._connection, message)

    @property
    def ended(self) -> str:
        """How the process ended, as text for an error."""
        if self._unreadable is not None:
            return f"what the handler reported cannot be read here: {self._unreadable}"
        code = self.process.returncode
        if code is None:
            return "the process of the handler is gone"
        if code < 0:
            with suppress(ValueError):
                name = signal.Signals(-code).name
                return f"the process of the handler was ended by signal {-code} ({name})"
        return f"the process of the handler ended with exit code {code}"

    def leave_to_parent(self) -> None:
        """Close the pipe, in a forked child of the worker. Otherwise its copy would keep the pipe
        open after the worker's end, and the process would not notice that end.
        """
        self._connection.close()

    async def kill(self) -> None:
        """Kill the process and those that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with anyio.move_on_after(_KILL_TIMEOUT, shield=True):
            await self.process.wait()
        self._send.close()
        self.inbox.close()
