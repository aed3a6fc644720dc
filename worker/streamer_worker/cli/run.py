from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import anyio

from streamer_store import SystemClock
from streamer_worker.app import App, open_app
from streamer_worker.cli.init import serve_as_init
from streamer_worker.cli.options import ConfigOption
from streamer_worker.errors import HandlerLoadError, LifespanError
from streamer_worker.events import Listener, ProcessEnding
from streamer_worker.forks import detach_forked_children, reset_signals_in_forked_children
from streamer_worker.handlers.registry import GROUP, Registry, load_handlers
from streamer_worker.log_throttle import LogThrottle
from streamer_worker.logs import LogListener, configure_logging
from streamer_worker.settings import Settings, load_settings

_NOT_STARTED: Final = 2  # as every StartError
_ENDED: Final = 70  # sysexits.h: EX_SOFTWARE
_LAST_MOMENT: Final = 1.0
_SPARE_THREADS: Final = 10


def run(config: ConfigOption = None) -> None:
    """Work on waiting requests until SIGTERM or SIGINT; then finish what runs, and exit 0.

    A second signal waits for no handler. Settings come from `STREAMER_…` variables, handlers
    from the installed packages' entry points.
    """
    serve_as_init()
    reset_signals_in_forked_children()
    settings = load_settings(config)
    configure_logging(settings.log)
    registry = load_handlers()
    if not registry:
        raise HandlerLoadError(
            "there are no handlers:", [f"install a package with entry points of group {GROUP}"]
        )

    listener = LogThrottle(LogListener(), clock=SystemClock())
    try:
        code = anyio.run(_work, settings, registry, listener)
    except SystemExit as left:
        # A task that a handler has started called sys.exit(): asyncio ends its loop then.
        reason = f"a handler's task raised {left!r}"
        listener(ProcessEnding(reason=reason, stacks=traceback.format_exc()))
        code = _ENDED
        _leave_soon(code)
    sys.exit(code)


async def _work(settings: Settings, registry: Registry, listener: Listener) -> int:
    # Names are resolved in this pool, too: handlers must not fill it.
    pool = ThreadPoolExecutor(settings.concurrency + _SPARE_THREADS)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(pool)
    detach_forked_children(loop)
    async with (
        open_app(
            settings,
            registry,
            [listener],
            end=lambda _reason: _leave(_ENDED),
            leave=lambda: _leave(0),
        ) as app,
        anyio.create_task_group() as tasks,
    ):
        await tasks.start(_stop_at_signals, app)
        try:
            await app.run()
        except LifespanError:
            _leave_soon(_NOT_STARTED)  # if it broke late, handlers may have left threads, too
            raise
        tasks.cancel_scope.cancel()
    # When nobody asked for it, a supervisor shall start it again.
    code = 0 if app.stopping else _ENDED
    _leave_soon(code)  # asyncio waits for threads and tasks that handlers have left
    return code


def _leave_soon(code: int) -> None:
    """End the process, also when threads that handlers have started run on."""
    timer = threading.Timer(_LAST_MOMENT, _leave, (code,))
    timer.daemon = True
    timer.start()


def _leave(code: int) -> None:
    """End the process now, whatever its threads and tasks still do."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


async def _stop_at_signals(
    app: App, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            app.stop()
