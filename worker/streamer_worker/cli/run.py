from __future__ import annotations

import asyncio
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import anyio
from anyio.abc import TaskStatus

from streamer_store import StoreError, SystemClock
from streamer_worker.app import LAST_SECONDS, App, open_app
from streamer_worker.cli import faults
from streamer_worker.cli.init import serve_as_init
from streamer_worker.cli.options import ConfigOption
from streamer_worker.concurrency.exits import Exit, open_standard_descriptors
from streamer_worker.concurrency.stop_signals import StopSignals
from streamer_worker.errors import HandlerLoadError, StartError
from streamer_worker.events import ProcessEnding, SignalHandlersRestored
from streamer_worker.execution.processes.forks import (
    detach_forked_children,
    reset_signals_in_forked_children,
)
from streamer_worker.fleet.loop_watchdog import InterpreterWatchdog
from streamer_worker.handlers.registry import GROUP, Registry, load_handlers
from streamer_worker.monitoring.log_throttle import LogThrottle
from streamer_worker.monitoring.logs import LogListener, WorkerLog, configure_logging
from streamer_worker.monitoring.worker_log import hold_sensitive_loggers
from streamer_worker.sanitize import message_of
from streamer_worker.settings import Settings, load_settings

_ENDED: Final = 70  # sysexits.h: EX_SOFTWARE
_THREADS_END_WITHIN: Final = 1.0
_SPARE_THREADS: Final = 10
_CHECK_SIGNALS_EVERY: Final = 1.0


def run(config: ConfigOption = None) -> None:
    """Work on waiting requests until SIGTERM, SIGINT or SIGHUP; then finish what runs, and exit 0.

    A second signal waits for no handler. Settings come from `STREAMER_…` variables, handlers
    from the installed packages' entry points.
    """
    serve_as_init()
    reset_signals_in_forked_children()
    open_standard_descriptors()
    settings = load_settings(config)
    log = configure_logging(settings.log)
    worker = _Worker(settings, log)
    try:
        registry = _load_handlers()
        log.take_over()  # plugins configure logging when they are imported
        code = anyio.run(worker.run, registry)
    except BaseException as error:  # noqa: BLE001  a handler can raise anything out of the loop
        code = worker.code_after(error)
    worker.end(code)


def _load_handlers() -> Registry:
    registry = load_handlers()
    if not registry:
        raise HandlerLoadError(
            "there are no handlers:", [f"install a package with entry points of group {GROUP}"]
        )
    return registry


class _Worker:
    def __init__(self, settings: Settings, log: WorkerLog) -> None:
        self._settings = settings
        self._log = log
        self._listener = LogThrottle(LogListener(), clock=SystemClock())
        self._exit = Exit(hooks_within=settings.exit_timeout)
        self._app: App | None = None
        self._signals: StopSignals | None = None

    async def run(self, registry: Registry) -> int:
        """Work until the end, and return the exit code.

        Raises what handlers raise out of the event loop, and KeyboardInterrupt before the start.
        """
        # Names are resolved in this pool, too: handlers must not fill it.
        pool = ThreadPoolExecutor(self._settings.concurrency + _SPARE_THREADS)
        loop = asyncio.get_running_loop()
        loop.set_default_executor(pool)
        detach_forked_children(loop)
        try:
            await self._work(registry)
        except (StartError, StoreError, BaseExceptionGroup) as error:
            if faults.code_of(error) is None:
                raise
            code = self.code_after(error)
        else:
            code = self._code()
        # Closing the loop waits for the threads and tasks that handlers have left.
        self._exit.after_hooks_in(_THREADS_END_WITHIN, code)
        return code

    def code_after(self, error: BaseException) -> int:
        """Report what ended the work, and return the exit code.

        1. The worker could not start, or a lifespan has failed: a message without a traceback.
        2. Ctrl-C before the start: it is raised again.
        3. Code of a handler ended the event loop, by sys.exit(), KeyboardInterrupt, loop.stop()
           or the cancellation of all tasks: an event, and 70.
        """
        code = faults.code_of(error)
        if code is not None:
            faults.report(error)
            return code
        if self._app is None and isinstance(error, KeyboardInterrupt):
            raise error
        self._tell_ending(
            f"the event loop was ended by {type(error).__name__}: {message_of(error)}",
            "".join(traceback.format_exception(error)),
        )
        return _ENDED

    def end(self, code: int) -> None:
        if self._signals is not None:
            self._signals.install()  # closing the loop may have removed them
        self._exit.after_hooks(code)

    async def _work(self, registry: Registry) -> None:
        async with open_app(
            self._settings,
            registry,
            [self._listener],
            end=lambda _reason: self._exit.at_once(_ENDED),
            leave=self._leave,
            watchdog=self._watchdog(),
        ) as app:
            self._app = app
            hold_sensitive_loggers()  # opening a client has made more
            # They stay installed: a signal must not kill the process while it ends.
            self._signals = StopSignals(app.stop, loop=asyncio.get_running_loop())
            self._signals.install()
            async with anyio.create_task_group() as tasks:
                watching = await tasks.start(self._watch, self._signals)
                await app.run()
                watching.cancel()

    async def _watch(
        self, signals: StopSignals, *, task_status: TaskStatus[anyio.CancelScope]
    ) -> None:
        """Restore the handlers of signals that a plugin has replaced.

        If this task is cancelled with all others, limit how long they may take to end.
        """
        try:
            with anyio.CancelScope() as scope:
                task_status.started(scope)
                while True:
                    await anyio.sleep(_CHECK_SIGNALS_EVERY)
                    if restored := signals.restore():
                        self._listener(SignalHandlersRestored(signals=tuple(restored)))
        except BaseException:
            seconds = self._settings.handler.cancel_grace + LAST_SECONDS
            reason = f"the event loop was ended, and its tasks did not end within {seconds:g} s"
            report = partial(self._tell_ending, reason, "")
            self._exit.after_hooks_in(seconds, _ENDED, report=report)
            raise

    def _watchdog(self) -> InterpreterWatchdog | None:
        if self._log.descriptor is None:
            return None
        stuck_after = self._settings.presence.stuck_after
        return InterpreterWatchdog(seconds=stuck_after, descriptor=self._log.descriptor)

    def _leave(self) -> None:
        """End though handlers run on, which nothing can end."""
        error = sys.exception()  # what is being raised through our caller
        self._exit.after_hooks(self._code() if error is None else self.code_after(error))

    def _code(self) -> int:
        if self._app is not None and self._app.stopping:
            return 0
        # A supervisor shall start it again.
        self._tell_ending("the worker ended, and nobody has asked for it", "")
        return _ENDED

    def _tell_ending(self, reason: str, stacks: str) -> None:
        self._listener(ProcessEnding(reason=reason, stacks=stacks))
