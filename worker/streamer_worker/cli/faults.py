"""What is said on stderr when a command fails, and the exit code."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from streamer_store import StoreError
from streamer_worker.cli import output
from streamer_worker.errors import StartError

WORK_FAILED: Final = 1
CALL_FAILED: Final = 2


def only(error: BaseException) -> BaseException:
    """Return the one error inside groups of one, as task groups wrap it."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def code_of(error: BaseException) -> int | None:
    """Return the exit code for an error that needs no traceback; None for any other."""
    match only(error):
        case StartError():
            return CALL_FAILED
        case StoreError():
            return WORK_FAILED
    return None


def report(error: BaseException) -> None:
    """Print what is wrong, if there is a stderr to print to."""
    # Rich raises SystemExit when nobody reads.
    with suppress(OSError, ValueError, SystemExit):
        match only(error):
            case StartError() as fault:
                output.fail(fault.headline, fault.faults)
            case fault:
                output.fail(str(fault))
