"""What a worker and a child of it send each other."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from streamer_worker.handlers.context import AttemptInfo, ProgressUpdate
from streamer_worker.handlers.exceptions import Reject, RetryLater, code_of, wait_of
from streamer_worker.sanitize import message_of, text_of
from streamer_worker.settings import LogSettings


class WorkerCrashed(Exception):
    """The process of a handler has died under it."""


class ResultInvalid(Exception):
    """The result of a handler cannot leave its process."""


@dataclass(frozen=True, slots=True)
class Setup:
    """To the child, first: how to log (None: not at all)."""

    log: LogSettings | None


@dataclass(frozen=True, slots=True)
class Job:
    """To the child: call this. The payload is pickled, so that an error in it fails this call
    alone. `bound` are the log fields that the call begins with.

    `call` is the number of the call, unique within a worker. Every other message of the call
    bears it too, and a message of another call is dropped.
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
    """From the child: progress."""

    call: int
    told: ProgressUpdate


@dataclass(frozen=True, slots=True)
class Save:
    """From the child, which waits for the answer: a checkpoint, pickled. `number` counts the
    checkpoints of the call.
    """

    call: int
    number: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Saved:
    """To the child: the checkpoint of that number is in the table, or why it is not."""

    call: int
    number: int
    error: bytes | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """From the child, last: the handler's result or its exception, pickled. `plain` is the
    exception once more, for a worker that cannot import its class.
    """

    call: int
    value: bytes | None = None
    error: bytes | None = None
    plain: bytes = b""

    def outcome(self) -> Any:
        """Return the result. Raises the exception, and ResultInvalid for a result that cannot be
        read here.
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
            found: BaseException = pickle.loads(error)  # noqa: S301  our own child
        except Exception:  # noqa: BLE001  its class may be anything, and anywhere
            found = pickle.loads(self.plain)  # noqa: S301  our own child
        return found


Message = Setup | Job | Signal | Report | Save | Saved | Done


def send(connection: Connection, message: Message) -> None:
    connection.send_bytes(pickle.dumps(message))


def receive(connection: Connection) -> Message:
    """Return the next message. Raises EOFError or OSError when there is nobody."""
    message: Message = pickle.loads(connection.recv_bytes())  # noqa: S301  our own child
    return message


def pickled_error(error: BaseException, note: str | None = None) -> bytes:
    """Return an exception that arrives whatever it is; the note travels with it."""
    if note is not None:
        error.add_note(note)
    try:
        data = pickle.dumps(error)
        pickle.loads(data)  # noqa: S301  many can be written, and not read
    except Exception:  # noqa: BLE001  its class may do anything
        return plain_error(error, note)
    return data


def plain_error(error: BaseException, note: str | None = None) -> bytes:
    """Return an exception of a class that every process has, pickled: a verdict stays one."""
    found: Exception
    match error:
        case Reject():
            found = Reject(message_of(error), code=code_of(error))
        case RetryLater():
            reason = text_of(error.reason)
            found = RetryLater(reason, after=wait_of(error), counts=bool(error.counts))
        case _:
            found = RuntimeError(f"{type(error).__name__}: {message_of(error)}")
    if note is not None:
        found.add_note(note)
    return pickle.dumps(found)


def trace_of(error: BaseException) -> str:
    text = "".join(traceback.format_exception(error))
    return f"in the process of the handler:\n{text}"
