"""The messages between a worker and its child processes."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from streamer_worker.handlers.client_message import ClientMessage
from streamer_worker.handlers.context import AttemptInfo
from streamer_worker.handlers.exceptions import Reject, RetryLater, code_of, wait_of
from streamer_worker.handlers.worker_channel import ProgressUpdate
from streamer_worker.sanitize import message_of, named_message, text_of
from streamer_worker.settings import LogSettings


class WorkerCrashed(Exception):
    """The process of a handler ended before the handler did."""


class ResultInvalid(Exception):
    """The result of a handler cannot be pickled or unpickled."""


@dataclass(frozen=True, slots=True)
class Setup:
    """To the child, first: the log settings. None: the child does not configure logging."""

    log: LogSettings | None


@dataclass(frozen=True, slots=True)
class Job:
    """To the child: call the function `name` of `module`.

    * `call`: the number of the call, unique within a worker. Every other message of the call has
      it, too. Messages of another call are dropped.
    * `payload`: pickled separately, so that an error in it fails this call only.
    * `attempt`: the fields of the context.
    * `bound`: the log fields of the call.
    """

    call: int
    module: str
    name: str
    payload: bytes
    attempt: AttemptInfo
    bound: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Signal:
    """To the child: the handler is cancelled, or the worker drains."""

    call: int
    cancelled: bool = False
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """From the child: the newest progress."""

    call: int
    update: ProgressUpdate


@dataclass(frozen=True, slots=True)
class Send:
    """From the child: messages of the handler to clients, in their order."""

    call: int
    messages: tuple[ClientMessage, ...]


@dataclass(frozen=True, slots=True)
class Save:
    """From the child, which waits for the Saved: a checkpoint. `number` counts the checkpoints of
    the call, and `value` is pickled.
    """

    call: int
    number: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Saved:
    """To the child: the checkpoint of that number is stored, or `error`, pickled, says why not."""

    call: int
    number: int
    error: bytes | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """From the child, last: the handler's result or its exception, pickled. `plain` is the same
    exception with a class of Python or of the worker, for a worker that cannot unpickle `error`.
    """

    call: int
    value: bytes | None = None
    error: bytes | None = None
    plain: bytes = b""

    def outcome(self) -> Any:
        """Return the handler's result. Raises the handler's exception, and ResultInvalid for a
        result that cannot be unpickled here.
        """
        if self.error is not None:
            raise self._exception(self.error)
        try:
            return pickle.loads(self.value or b"")  # noqa: S301  our own child
        except Exception as error:
            text = f"the result cannot be read outside of its process: {message_of(error)}"
            raise ResultInvalid(text) from error

    def _exception(self, error: bytes) -> BaseException:
        try:
            exception: BaseException = pickle.loads(error)  # noqa: S301  our own child
        except Exception:  # noqa: BLE001  its class may do anything, and not be importable here
            exception = pickle.loads(self.plain)  # noqa: S301  our own child
        return exception


Message = Setup | Job | Signal | Report | Send | Save | Saved | Done


def send(connection: Connection, message: Message) -> None:
    """Send a message. Blocks while the pipe is full. Raises OSError when it is closed."""
    connection.send_bytes(pickle.dumps(message))


def receive(connection: Connection) -> Message:
    """Wait for the next message and return it. Raises EOFError or OSError when the other end is
    closed.
    """
    message: Message = pickle.loads(connection.recv_bytes())  # noqa: S301  our own child
    return message


def pickled_error(error: BaseException, note: str | None = None) -> bytes:
    """Return an exception, pickled, with the note added. An exception that cannot be pickled and
    unpickled is replaced as in `plain_error`.
    """
    if note is not None:
        error.add_note(note)
    try:
        data = pickle.dumps(error)
        pickle.loads(data)  # noqa: S301  many can be pickled, but not unpickled
    except Exception:  # noqa: BLE001  its class may do anything
        return plain_error(error, note)
    return data


def plain_error(error: BaseException, note: str | None = None) -> bytes:
    """Return a replacement for an exception, pickled: of a class that every process can import.
    Reject and RetryLater, and their subclasses, keep their meaning.
    """
    replacement: Exception
    match error:
        case Reject():
            replacement = Reject(message_of(error), code=code_of(error))
        case RetryLater():
            reason = text_of(error.reason)
            replacement = RetryLater(reason, after=wait_of(error), counts=bool(error.counts))
        case _:
            replacement = RuntimeError(named_message(error))
    if note is not None:
        replacement.add_note(note)
    return pickle.dumps(replacement)


def trace_of(error: BaseException) -> str:
    """Return the traceback of an exception as text for a note."""
    text = "".join(traceback.format_exception(error))
    return f"in the process of the handler:\n{text}"
