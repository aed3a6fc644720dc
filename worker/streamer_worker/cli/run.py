from __future__ import annotations

import asyncio
import gc
import sys
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import anyio
from anyio.abc import TaskStatus

from streamer_store import InvalidInput, StoreError, SystemClock
from streamer_worker.app import App
from streamer_worker.cli import faults
from streamer_worker.cli.init import serve_as_init
from streamer_worker.cli.loading import find_checked_handlers, load_settings_of_worker
from streamer_worker.cli.options import APP_DIR
from streamer_worker.cli.reloading import restart_on_change
from streamer_worker.cli.source_files import SourceFiles
from streamer_worker.concurrency.exits import Exit, open_standard_descriptors
from streamer_worker.concurrency.stop_signals import StopSignals
from streamer_worker.errors import HandlerLoadError, StartError
from streamer_worker.events import ProcessEnding, SignalHandlersRestored
from streamer_worker.execution.processes.forks import (
    detach_forked_children,
    reset_signals_in_forked_children,
)
from streamer_worker.fleet.loop_watchdog import InterpreterWatchdog
from streamer_worker.handlers.registry import INSTALL_HANDLERS, NO_HANDLERS, Registry
from streamer_worker.monitoring.client_loggers import hold_sensitive_loggers
from streamer_worker.monitoring.log_throttle import LogThrottle
from streamer_worker.monitoring.logs import LogListener, WorkerLog, configure_logging
from streamer_worker.monitoring.outages import OutageLog
from streamer_worker.sanitize import message_of
from streamer_worker.settings import Settings
from streamer_worker.wiring import SHUTDOWN_SECONDS, open_app

_LOOP_FAILED: Final = 70  # sysexits.h: EX_SOFTWARE
_THREAD_TIMEOUT: Final = 1.0
_SPARE_THREADS: Final = 10
_SIGNAL_CHECK_INTERVAL: Final = 1.0


def run_worker(
    config: Path | None,
    *,
    references: Sequence[str] | None = None,
    app_dir: Path = APP_DIR,
    reload: bool = False,
) -> None:
    """Run a worker until a signal, and end the process.

    references: handlers that are loaded beside the installed ones (handlers/references.py).
    reload: whether a supervisor restarts the worker when a Python file below `app_dir` changes.
    """
    serve_as_init()
    open_standard_descriptors()
    if reload:
        restart_on_change(SourceFiles(app_dir, [] if config is None else [config]))
    run_in_this_process(config, references=references, app_dir=app_dir)


def run_in_this_process(
    config: Path | None, *, references: Sequence[str] | None, app_dir: Path
) -> None:
    """Run a worker as `run_worker` does, without a supervisor or process 1."""
    reset_signals_in_forked_children()
    settings = load_settings_of_worker(config, references, app_dir)
    log = configure_logging(settings.log)
    worker = _Worker(settings, log)
    try:
        registry = _load_handlers(references, app_dir, settings)
        log.take_over()  # importing a plugin may have configured logging
        code = anyio.run(worker.run, registry)
    except BaseException as error:  # noqa: BLE001  a handler can raise anything out of the loop
        code = worker.exit_code_after(error)
    worker.end(code)


def _load_handlers(references: Sequence[str] | None, app_dir: Path, settings: Settings) -> Registry:
    registry = find_checked_handlers(references, app_dir, settings)
    if not registry:
        raise HandlerLoadError(f"{NO_HANDLERS}:", [INSTALL_HANDLERS])
    return registry


def _freeze_heap() -> None:
    """Take what the start has made out of the heap that the garbage collector walks.

    It lives as long as the process: modules, and the models of the AWS client. A full collection
    would walk it in 0.07 s, during which the event loop does nothing else. The thresholds of the
    collector stay as they are: with higher ones, a handler that leaves a cycle of 10 MB with each
    request needs gigabytes.
    """
    gc.collect()
    gc.freeze()


class _Worker:
    """Runs the app, and decides the exit code of the process."""

    def __init__(self, settings: Settings, log: WorkerLog) -> None:
        self._settings = settings
        self._log = log
        clock = SystemClock()
        self._listener = OutageLog(LogThrottle(LogListener(log), clock=clock), clock=clock)
        self._exit = Exit(hooks_within=settings.exit_timeout)
        self._app: App | None = None
        self._signals: StopSignals | None = None

    async def run(self, registry: Registry) -> int:
        """Work until stopped, and return the exit code.

        Raises exceptions that handlers raise out of the event loop, and KeyboardInterrupt before
        the start.
        """
        # asyncio resolves host names in this pool, so handlers must not be able to fill it.
        pool = ThreadPoolExecutor(self._settings.concurrency + _SPARE_THREADS)
        loop = asyncio.get_running_loop()
        loop.set_default_executor(pool)
        detach_forked_children(loop)
        try:
            await self._work(registry)
        except (StartError, StoreError, BaseExceptionGroup) as error:
            if faults.exit_code_of(error) is None:
                raise
            code = self.exit_code_after(error)
        else:
            code = self._exit_code()
        # Closing the loop waits for the threads and tasks that handlers left behind.
        self._exit.after_hooks_in(_THREAD_TIMEOUT, code)
        return code

    def exit_code_after(self, error: BaseException) -> int:
        """Report the error that ended the work, and return the exit code.

        There are three cases:

        1. The worker could not start, or a lifespan has failed: a message without a traceback.
        2. Ctrl-C before the start: KeyboardInterrupt is raised again.
        3. Code of a handler ended the event loop, by sys.exit(), KeyboardInterrupt, loop.stop()
           or the cancellation of all tasks: the event ProcessEnding, and 70.
        """
        code = faults.exit_code_of(error)
        if code is not None:
            faults.report(error)
            # A worker has no input but its settings. A restart with the same ones does not help.
            is_invalid = isinstance(faults.unwrap(error), InvalidInput)
            return faults.CANNOT_START if is_invalid else code
        if self._app is None and isinstance(error, KeyboardInterrupt):
            raise error
        self._emit_ending(
            f"the event loop was ended by {type(error).__name__}: {message_of(error)}",
            "".join(traceback.format_exception(error)),
        )
        return _LOOP_FAILED

    def end(self, code: int) -> None:
        """Run the exit hooks and end the process."""
        if self._signals is not None:
            self._signals.install()  # closing the loop may have removed the signal handlers
        self._exit.after_hooks(code)

    async def _work(self, registry: Registry) -> None:
        async with open_app(
            self._settings,
            registry,
            [self._listener],
            end=lambda _reason: self._exit.at_once(_LOOP_FAILED),
            leave=self._leave,
            watchdog=self._watchdog(),
        ) as app:
            self._app = app
            _freeze_heap()
            hold_sensitive_loggers()  # opening a client has created more loggers
            # The handlers remain installed, so that a signal cannot kill the process as it ends.
            self._signals = StopSignals(app.stop, loop=asyncio.get_running_loop())
            self._signals.install()
            async with anyio.create_task_group() as tasks:
                watching = await tasks.start(self._watch, self._signals)
                await app.run()
                watching.cancel()

    async def _watch(
        self, signals: StopSignals, *, task_status: TaskStatus[anyio.CancelScope]
    ) -> None:
        """Restore, each second, the signal handlers that a plugin has replaced.

        If this task is cancelled together with all others, end the process when they have not
        ended within their time limits.
        """
        try:
            with anyio.CancelScope() as scope:
                task_status.started(scope)
                while True:
                    await anyio.sleep(_SIGNAL_CHECK_INTERVAL)
                    if restored := signals.restore():
                        self._listener(SignalHandlersRestored(signals=tuple(restored)))
        except BaseException:
            seconds = self._settings.handler.cancel_grace + SHUTDOWN_SECONDS
            reason = f"the event loop was ended, and its tasks did not end within {seconds:g} s"
            report = partial(self._emit_ending, reason, "")
            self._exit.after_hooks_in(seconds, _LOOP_FAILED, report=report)
            raise

    def _watchdog(self) -> InterpreterWatchdog | None:
        if self._log.descriptor is None:
            return None
        stuck_after = self._settings.presence.stuck_after
        return InterpreterWatchdog(seconds=stuck_after, descriptor=self._log.descriptor)

    def _leave(self) -> None:
        """End the process while handlers still run that did not react to cancellation."""
        error = sys.exception()  # the exception that our caller is handling
        self._exit.after_hooks(self._exit_code() if error is None else self.exit_code_after(error))

    def _exit_code(self) -> int:
        if self._app is not None and self._app.stopping:
            return 0
        # The code is not 0, so that a supervisor starts the worker again.
        self._emit_ending("the worker ended without a shutdown request", "")
        return _LOOP_FAILED

    def _emit_ending(self, reason: str, stacks: str) -> None:
        self._listener(ProcessEnding(reason=reason, stacks=stacks))
