"""Error messages on stderr when a command fails, and its exit code."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from streamer_store import StoreError
from streamer_store.errors import leaf_exceptions
from streamer_worker.cli import output
from streamer_worker.errors import LifespanError, StartError

_TRY_AGAIN: Final = 1
CANNOT_START: Final = 2
_WRITING: Final = frozenset({errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EPIPE})


def unwrap(error: BaseException) -> BaseException:
    """Return the only error inside groups, as task groups raise it. Several stay in their group."""
    leaves = leaf_exceptions(error)
    return leaves[0] if len(leaves) == 1 else error


def output_error(error: BaseException) -> OSError | None:
    """Return why stdout cannot be written, or None if that is not what `error` is about.

    Then the rest of the output is discarded. Otherwise Python writes it again when it exits.
    """
    error = unwrap(error)
    # Files and directories are in the errors about them, and the stores translate those of sockets.
    if not isinstance(error, OSError) or error.errno not in _WRITING or error.filename is not None:
        return None
    with suppress(OSError, ValueError), Path(os.devnull).open("w") as devnull:
        os.dup2(devnull.fileno(), sys.stdout.fileno())
    return error


def text_of(error: StoreError) -> str:
    """Return what is wrong, with the table and the key, and without the store's operation."""
    place = {"table": error.table, "key": error.key}
    known = ", ".join(f"{name} {value}" for name, value in place.items() if value)
    message = error.message.replace("`beyond_a_year`", "--beyond-a-year")
    return f"{message} ({known})" if known else message


def exit_code_of(error: BaseException) -> int | None:
    """Return the exit code of an error that is reported in a line; None needs a traceback.

    It is 2 for settings, handlers and tables that are wrong until somebody changes them, so that a
    restart does not help. It is 1 for failed calls, and for lifespans, whose resources may return.
    """
    match unwrap(error):
        case LifespanError() | StoreError():
            return _TRY_AGAIN
        case StartError():
            return CANNOT_START
    return None


def report(error: BaseException) -> None:
    """Print the error on stderr. Does nothing if stderr is closed."""
    # Rich raises SystemExit when the other end of a pipe is closed.
    with suppress(OSError, ValueError, SystemExit):
        match unwrap(error):
            case StartError() as fault:
                output.print_error(fault.headline, fault.faults)
            case StoreError() as fault:
                output.print_error(text_of(fault))
            case fault:
                output.print_error(str(fault))
