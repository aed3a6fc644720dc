"""Functions that the tests run in processes."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

from streamer_store import ValidationError
from streamer_worker import HandlerCancelled, Reject, RetryLater, SyncContext, handler


class Odd(Exception):
    """A value that can be pickled and not unpickled."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


def double(payload: dict[str, Any], ctx: SyncContext) -> Any:
    return [payload, ctx.request_id, ctx.attempt, ctx.metadata, ctx.last_checkpoint]


def pid(_payload: Any, _ctx: SyncContext) -> int:
    return os.getpid()


def raises(payload: str, _ctx: SyncContext) -> None:
    raise {
        "value": ValueError("no rows"),
        "reject": Reject("no account", code="NO_ACCOUNT"),
        "later": RetryLater("busy", after=7, counts=True),
        "odd": Odd("a", "b"),
        "exit": SystemExit(3),
        "local": type("Local", (Exception,), {})("gone"),
    }[payload]


def dies(payload: str, _ctx: SyncContext) -> None:
    if payload == "exit":
        os._exit(7)
    os.kill(os.getpid(), signal.SIGKILL)


def stubborn(_payload: Any, ctx: SyncContext) -> None:
    ctx.progress(0.5, f"{os.getpid()}")
    while True:
        with suppress(BaseException):
            time.sleep(600)


def cooperative(payload: str, ctx: SyncContext) -> None:
    ctx.progress(0.5, f"{os.getpid()}")
    try:
        while not ctx.cancelled:
            time.sleep(0.01)
        ctx.progress(0.6)
    except HandlerCancelled:
        Path(payload).write_text("cleaned up")
        raise


def cleans_up(payload: dict[str, Any], ctx: SyncContext) -> None:
    """Take this many seconds to clean up after cancellation."""
    ctx.progress(0.5)
    while not ctx.cancelled:
        time.sleep(0.01)
    time.sleep(payload["seconds"])
    Path(payload["file"]).touch()


def returns_late(_payload: Any, ctx: SyncContext) -> str:
    ctx.progress(0.5)
    while not ctx.cancelled:
        time.sleep(0.01)
    return "finished"


def signalled(_payload: Any, _ctx: SyncContext) -> int:
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    own = ["/bin/sh", "-c", "kill -TERM $$; sleep 60"]
    return subprocess.run(own, check=False).returncode  # noqa: S603


def until_draining(_payload: Any, ctx: SyncContext) -> str:
    ctx.progress(0.1)
    while not ctx.draining:
        time.sleep(0.01)
    return "drained"


def steps(payload: int, ctx: SyncContext) -> None:
    for number in range(payload):
        ctx.progress(number + 1, f"step {number}", total=payload)


def resets(_payload: Any, ctx: SyncContext) -> None:
    ctx.progress(0.9)
    ctx.progress(0.1, reset=True)
    ctx.progress(0.2)


def reports_then_waits(payload: str, ctx: SyncContext) -> None:
    ctx.progress(0.1)
    ctx.progress(0.2, "newest")
    deadline = time.monotonic() + 60
    while not Path(payload).exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def wrong_progress(_payload: Any, ctx: SyncContext) -> str:
    try:
        ctx.progress(details={"x": object()})
    except ValidationError as error:
        return error.field
    return "taken"


def saves(payload: Any, ctx: SyncContext) -> str:
    ctx.progress(0.5, "half")
    try:
        ctx.checkpoint(payload)
    except ValidationError as error:
        return f"{error.field} refused"
    return "saved"


def in_threads(_payload: Any, ctx: SyncContext) -> None:
    def report(number: int) -> None:
        for _ in range(100):
            ctx.progress(number / 10)

    threads = [threading.Thread(target=report, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def prints(_payload: Any, _ctx: SyncContext) -> str:
    print("to stdout", flush=True)  # noqa: T201
    sys.stderr.write("to stderr\n")
    os.write(1, b"raw\n")
    return "printed"


def large(payload: int, _ctx: SyncContext) -> str:
    return "x" * payload


def not_picklable(_payload: Any, _ctx: SyncContext) -> Any:
    return lambda: None


def grandchild(payload: str, ctx: SyncContext) -> None:
    with subprocess.Popen(["/bin/sleep", "600"]) as process:
        Path(payload).write_text(str(process.pid))
        ctx.progress(0.5, f"{os.getpid()}")
        process.wait()


def grandchild_then_dies(payload: str, _ctx: SyncContext) -> None:
    process = subprocess.Popen(["/bin/sleep", "600"])
    Path(payload).write_text(str(process.pid))
    os._exit(7)


@handler("decorated", process=True)
def decorated(payload: dict[str, Any], _ctx: SyncContext) -> dict[str, Any]:
    return payload


class Local:
    """An object that a function holds in a local variable."""


_locals: list[weakref.ref[Local]] = []


def fails_with_local(_payload: Any, _ctx: SyncContext) -> None:
    gc.disable()
    local = Local()
    _locals.append(weakref.ref(local))
    error = ValueError(type(local).__name__)
    raise error


def locals_made_and_alive(_payload: Any, _ctx: SyncContext) -> list[int]:
    gc.enable()
    return [len(_locals), sum(reference() is not None for reference in _locals)]


def reports_while_saving(_payload: Any, ctx: SyncContext) -> str:
    saved = threading.Event()

    def report() -> None:
        number = 0
        with suppress(HandlerCancelled):
            while not saved.is_set():
                number += 1
                ctx.progress(0.5, f"{number}")
                time.sleep(0.001)

    thread = threading.Thread(target=report)
    thread.start()
    try:
        ctx.checkpoint("value")
    finally:
        saved.set()
        thread.join()
    return "saved"
