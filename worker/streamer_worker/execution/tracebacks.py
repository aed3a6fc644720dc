"""Frees the local variables of handlers that have raised.

An exception refers to its traceback, that to its frames, and these to their local variables. If
one of those is the exception, only the garbage collector frees them, and its last generation may
not run for minutes. Without the tracebacks they are freed at once. The frames are only read, never
cleared: a coroutine that has passed its exception to a handler may still run.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from types import FrameType
from typing import Any, Final

# How many members of a local list, tuple, set or dict are searched for exceptions.
_MAX_MEMBERS: Final = 100
# As attributes of BaseException: those of a handler's class may be properties that raise.
_LINKS: Final = (vars(BaseException)["__cause__"], vars(BaseException)["__context__"])
_TRACEBACK: Final = vars(BaseException)["__traceback__"]
_EXCEPTIONS: Final = vars(BaseExceptionGroup)["exceptions"]


def drop_tracebacks(error: BaseException) -> None:
    """Remove the tracebacks of an exception, and of those that `related_exceptions` finds. Call it
    after the exception was logged. Never raises.
    """
    for related in related_exceptions(error):
        _TRACEBACK.__set__(related, None)


def related_exceptions(error: BaseException) -> list[BaseException]:
    """Return the exception and those that it refers to: its cause and its context, the members of
    a group, and the exceptions in local variables of the frames of its traceback. Never raises.
    """
    found = {id(error): error}
    frames: set[FrameType] = set()
    waiting = [error]
    while waiting:
        current = waiting.pop()
        for related in (*_linked(current), *_in_frames(current, frames)):
            if id(related) not in found:
                found[id(related)] = related
                waiting.append(related)
    return list(found.values())


def _linked(error: BaseException) -> Iterator[BaseException]:
    for link in _LINKS:
        linked = link.__get__(error)
        if linked is not None:
            yield linked
    if isinstance(error, BaseExceptionGroup):
        yield from _EXCEPTIONS.__get__(error)


def _in_frames(error: BaseException, known: set[FrameType]) -> Iterator[BaseException]:
    """Give the exceptions in local variables of the frames that are not `known`, and add these."""
    traceback = _TRACEBACK.__get__(error)
    while traceback is not None:
        frame, traceback = traceback.tb_frame, traceback.tb_next
        if frame not in known:
            known.add(frame)
            for value in list(frame.f_locals.values()):
                yield from _exceptions_in(value)


def _exceptions_in(value: Any) -> Iterator[BaseException]:
    # type(): isinstance() asks the value's own __class__, which may be a property.
    kind = type(value)
    if issubclass(kind, BaseException):
        yield value
    elif kind in {list, tuple, set, dict}:
        members = value.values() if kind is dict else value
        # The list is a copy: another thread may change the value meanwhile.
        for member in list(islice(members, _MAX_MEMBERS)):
            if issubclass(type(member), BaseException):
                yield member
