"""Functions for processes that fork, leave threads behind, or change their process."""

from __future__ import annotations

import contextvars
import decimal
import gc
import locale
import logging
import multiprocessing
import os
import random
import signal
import socket
import sys
import threading
import time
import types
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from streamer_worker import HandlerCancelled, Reject, RetryLater, SyncContext
from streamer_worker.execution.processes.child import JobRunner
from streamer_worker.execution.processes.protocol import Done, Save

_VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
_FORK = multiprocessing.get_context("fork")


def forks(how: str, _ctx: SyncContext) -> Any:
    """Return the exit code of a forked child that leaves in this way."""
    child = os.fork()
    if child == 0:
        if how == "exit":
            sys.exit(7)
        if how == "text":
            sys.exit("a text")
        if how == "raise":
            raise ValueError(how)
        return "the child's"
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def forks_and_uses(how: str, ctx: SyncContext) -> Any:
    """Return the exit code of a forked child that uses the context."""
    child = os.fork()
    if child == 0:
        try:
            if how == "progress":
                ctx.progress(0.9, "the child's")
            else:
                ctx.checkpoint({"of": "the child"})
        except RuntimeError:
            os._exit(9)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def leaves_a_thread(payload: str, ctx: SyncContext) -> None:
    """Leave a thread behind that keeps writing, and records the results."""

    uses: list[Callable[[], None]] = [
        lambda: ctx.progress(0.9, "late"),
        lambda: ctx.checkpoint({"late": 1}),
    ]

    def work() -> None:
        while not Path(payload).exists():
            time.sleep(0.001)
        seen = [str(ctx.cancelled)]
        for use in uses:
            try:
                use()
            except HandlerCancelled:
                seen.append("cancelled")
        Path(payload).with_suffix(".seen").write_text(" ".join(seen))

    threading.Thread(target=work).start()


def waits_for(payload: str, ctx: SyncContext) -> str:
    """Let the thread of an earlier call work during this one."""
    Path(payload).touch()
    while not Path(payload).with_suffix(".seen").exists():
        time.sleep(0.001)
    ctx.checkpoint({"own": 1})
    return "own"


def forges(_payload: Any, _ctx: SyncContext) -> str:
    """Send messages of another call before the answer."""
    (runner,) = (one for one in gc.get_objects() if isinstance(one, JobRunner))
    runner._post(Save(call=0, number=1, value=b"forged"))
    runner._post(Done(call=0, value=b"forged"))
    return "own"


def context(payload: str, _ctx: SyncContext) -> Any:
    """Return the context variables that were set, and set them."""
    values = [
        _VARIABLE.get(),
        decimal.getcontext().prec,
        structlog.contextvars.get_contextvars().get("left"),
    ]
    _VARIABLE.set(payload)
    decimal.getcontext().prec = 3
    structlog.contextvars.bind_contextvars(left=payload)
    return values


def bound(_payload: Any, _ctx: SyncContext) -> Any:
    return structlog.contextvars.get_contextvars()


def state(_payload: Any, _ctx: SyncContext) -> Any:
    """Return the state of the process."""
    os.umask(mask := os.umask(0))
    return {
        "directory": str(Path.cwd()),
        "umask": mask,
        "environment": sorted(os.environ.items()),
        "locale": locale.setlocale(locale.LC_ALL),
        "path": list(sys.path),
        "filters": len(warnings.filters),
        "signals": [str(signal.getsignal(number)) for number in sorted(signal.valid_signals())],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "timer": signal.getitimer(signal.ITIMER_REAL),
        "timeout": socket.getdefaulttimeout(),
        "recursion": sys.getrecursionlimit(),
        "stdout": str(sys.stdout),
    }


def changes_all(payload: str, ctx: SyncContext) -> Any:
    """Change all that `state` returns, and return it."""
    os.chdir(payload)
    os.umask(0o777)
    os.environ["LEFT"] = "1"
    os.environ.pop("PATH")
    locale.setlocale(locale.LC_ALL, "C.UTF-8")
    locale.setlocale(locale.LC_NUMERIC, "POSIX")
    sys.path.insert(0, payload)
    warnings.simplefilter("error")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    signal.alarm(1000)
    socket.setdefaulttimeout(1)
    sys.setrecursionlimit(5000)
    sys.stdout = sys.stderr
    return state(None, ctx)


def warns(_payload: Any, _ctx: SyncContext) -> None:
    warnings.warn("watch out", stacklevel=1)


def seeded(_payload: Any, _ctx: SyncContext) -> float:
    """Return a random number, and set a seed."""
    number = random.random()
    random.seed(1)
    return number


def terminates(_payload: Any, _ctx: SyncContext) -> Any:
    """Return the exit code of a forked child that was terminated at once."""
    child = _FORK.Process(target=_sleeps)
    child.start()
    child.terminate()
    child.join(30)
    code = child.exitcode
    child.kill()
    return code


def leaves_a_pool(_payload: Any, _ctx: SyncContext) -> Any:
    """Return the exit codes of a Pool's processes that are left while they are busy."""
    read, write = os.pipe()
    with _FORK.Pool(1) as pool:
        pool.apply_async(_is_busy, [write])
        os.read(read, 1)
        processes = list(pool._pool)  # type: ignore[attr-defined]
    pool.join()
    return [process.exitcode for process in processes]


def directory(_payload: Any, _ctx: SyncContext) -> str:
    logging.getLogger("x").debug("no queue.py of another is used")
    return str(Path.cwd())


def _is_busy(write: int) -> None:
    os.write(write, b"x")
    _sleeps()


def _sleeps() -> None:
    while True:
        time.sleep(60)


def closes_its_streams(how: str, _ctx: SyncContext) -> str:
    """Print a line; then close the streams, their descriptors, or both."""
    for stream in (sys.stdout, sys.stderr):
        stream.write(how)
        stream.flush()
    if how != "descriptors":
        sys.stdout.close()
        sys.stderr.close()
    if how != "streams":
        for number in (1, 2):
            with suppress(OSError):
                os.close(number)
    return how


def in_another_zone(zone: str, _ctx: SyncContext) -> str:
    """Return the time zone, and change it."""
    before = time.tzname[0]
    os.environ["TZ"] = zone
    time.tzset()
    return before


def raises_its_own(module: str, _ctx: SyncContext) -> None:
    """Raise an exception whose class no other process can import."""
    sys.modules[module] = new_module = types.ModuleType(module)
    new_module.Broken = type("Broken", (Exception,), {"__module__": module})  # type: ignore[attr-defined]
    raise new_module.Broken("no rows")


def returns_its_own(module: str, _ctx: SyncContext) -> Any:
    """Return a value whose class no other process can import."""
    sys.modules[module] = new_module = types.ModuleType(module)
    new_module.Row = type("Row", (), {"__module__": module})  # type: ignore[attr-defined]
    return new_module.Row()


def saves_its_own(module: str, ctx: SyncContext) -> None:
    """Save a value whose class no other process can import."""
    ctx.checkpoint(returns_its_own(module, ctx))


def rejects_in_its_way(how: str, _ctx: SyncContext) -> None:
    """Raise a subclass of Reject that cannot be pickled."""

    class Mine(Reject):
        """A class that is defined in a function."""

    if how == "later":
        later = RetryLater("busy", after=7)
        later.lock = threading.Lock()  # type: ignore[attr-defined]
        raise later
    raise Mine("no account", code="NO_ACCOUNT")
