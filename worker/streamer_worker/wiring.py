"""The only place where a worker's objects are built and connected."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from streamer_store import (
    Cache,
    Clock,
    PauseKind,
    Stores,
    SystemClock,
    Undecodable,
    open_stores,
)
from streamer_worker.app import App
from streamer_worker.events import ActionSettingsUnused, Events, ItemUndecodable, Listener
from streamer_worker.execution.lifespans import CANCEL_TIMEOUT, EXIT_TIMEOUT
from streamer_worker.fleet.heartbeat_thread import (
    HeartbeatRunner,
    heartbeat_on_loop,
    heartbeat_on_thread,
)
from streamer_worker.fleet.loop_watchdog import EndProcess, InterpreterWatchdog, with_report
from streamer_worker.fleet.pauses import KnownPauses
from streamer_worker.fleet.server_clock import ServerClock
from streamer_worker.handlers.registry import Registry
from streamer_worker.incarnation import MAX_END_SECONDS, Dependencies
from streamer_worker.intake.action_settings import (
    unused_action_settings,
    with_action_settings,
)
from streamer_worker.monitoring.health import Health
from streamer_worker.monitoring.metrics import Metrics
from streamer_worker.monitoring.systemd import Systemd
from streamer_worker.push.apigateway import open_poster
from streamer_worker.push.log_post import open_log_post
from streamer_worker.push.push_thread import (
    ENDS_WITHIN,
    FLUSH,
    PushOpener,
    push_off,
    push_on_thread,
)
from streamer_worker.runtime import Runtime
from streamer_worker.schedules.loops import Schedules
from streamer_worker.schedules.resolving import resolve_schedules
from streamer_worker.settings import Settings, store_arguments

# Connections to DynamoDB for calls that hold no slot.
_CONNECTION_MAX_AGE: Final = 10.0
"""Seconds. The endpoint of a connection never changes, and a post says whether it is gone."""
_SPARE_CONNECTIONS: Final = 10
_HEARTBEAT_CONNECTIONS: Final = 4
_HEARTBEAT_ATTEMPTS: Final = 2
# The longest end of a worker, without drain_timeout, cancel_grace and exit_timeout, in seconds.
SHUTDOWN_SECONDS: Final = MAX_END_SECONDS + EXIT_TIMEOUT + CANCEL_TIMEOUT + FLUSH + ENDS_WITHIN


class _Builder:
    """Builds the objects that a worker has on DynamoDB as well as in memory."""

    def __init__(
        self, settings: Settings, registry: Registry, *, clock: Clock, rng: random.Random
    ) -> None:
        self._settings = settings
        self._registry = with_action_settings(registry, settings)
        self._clock = clock
        self._rng = rng
        self._definitions = resolve_schedules(settings.schedules, self._registry)
        self._metrics = Metrics(
            self._registry,
            clock=clock,
            reaps=settings.reaper.enabled,
            tables=settings.tables,
            schedules=self._definitions,
        )
        self._server_clock = ServerClock(clock)
        self.health = Health(settings=settings, clock=clock)

    def runtime(self, *listeners: Listener) -> Runtime:
        """Return a runtime whose events reach the metrics, health and these listeners, in order."""
        events = Events(self._metrics, self.health, self._server_clock, *listeners)
        for action, nearest in unused_action_settings(self._registry, self._settings).items():
            events.emit(ActionSettingsUnused(action=action, nearest=nearest))
        return Runtime(clock=self._clock, rng=self._rng, events=events)

    def app(
        self,
        stores: Stores,
        *,
        runtime: Runtime,
        heartbeat_runner: HeartbeatRunner,
        push: PushOpener,
        leave: Callable[[], object],
    ) -> App:
        known_pauses = KnownPauses(runtime=runtime)

        def is_paused(schedule: str) -> bool:
            return known_pauses.find(PauseKind.SCHEDULE, schedule) is not None

        dependencies = Dependencies(
            settings=self._settings,
            stores=stores,
            registry=self._registry,
            heartbeat_runner=heartbeat_runner,
            push=push,
            schedules=Schedules(
                definitions=self._definitions,
                store=stores.schedules,
                clock_skew=self._server_clock.skew,
                is_paused=is_paused,
                lease=self._settings.presence.lease,
                runtime=runtime,
            ),
            known_pauses=known_pauses,
            runtime=runtime,
            server_clock=self._server_clock,
        )
        return App(dependencies, metrics=self._metrics, health=self.health, leave=leave)


@asynccontextmanager
async def open_app(
    settings: Settings,
    registry: Registry,
    listeners: Iterable[Listener] = (),
    *,
    end: EndProcess,
    leave: Callable[[], object],
    watchdog: InterpreterWatchdog | None = None,
) -> AsyncIterator[App]:
    """Build a worker on DynamoDB. Its clients are open until the context ends.

    Raises ScheduleError.

    end: ends the process at once, and gets the reason.
    leave: ends the process after the work is done, if handlers still run.
    watchdog: ends the process if an extension module does not release the interpreter's lock.
    """
    clock, rng = SystemClock(), random.SystemRandom()
    builder = _Builder(settings, registry, clock=clock, rng=rng)
    systemd = Systemd(health=builder.health, ends_within=longest_shutdown(settings))
    runtime = builder.runtime(systemd, *listeners)
    events = runtime.events

    def report(error: Undecodable) -> None:
        events.emit(ItemUndecodable(table=error.table, key=error.key, reason=error.reason))

    opener = partial(
        open_stores,
        **store_arguments(settings),
        clock=clock,
        rng=rng,
        report=report,
        observe=events.emit,
    )
    interval = settings.presence.heartbeat
    heartbeat_runner = heartbeat_on_thread(
        # A heartbeat without an answer is given up before the next one begins.
        open_stores=partial(
            opener,
            max_connections=_HEARTBEAT_CONNECTIONS,
            connect_timeout=interval / 2,
            read_timeout=interval / 2,
            attempts=_HEARTBEAT_ATTEMPTS,
            call_timeout=interval,
            batch_writes=False,  # a heartbeat is alone
        ),
        settings=settings.presence,
        runtime=runtime,
        cpu=time.process_time,
        end_process=with_report(events, end),
        watchdog=watchdog,
    )
    push: PushOpener = push_off
    if settings.push != "off":
        push = push_on_thread(
            open_stores=partial(
                opener,
                max_connections=_SPARE_CONNECTIONS,
                # PUSH-3: a client that has subscribed or connected gets the next message.
                cache=Cache(
                    max_age=_CONNECTION_MAX_AGE,
                    absent=False,
                    subscriptions=False,
                    observe=events.emit,
                ),
            ),
            open_post=partial(open_log_post, events)
            if settings.push == "log"
            else partial(
                open_poster,
                region=settings.region,
                seconds=settings.notifier.timeout,
                max_concurrent_posts=settings.notifier.max_concurrent_posts,
            ),
            settings=settings.notifier,
            runtime=runtime,
            endpoint=settings.push_endpoint,
        )
    async with opener(max_connections=settings.concurrency + _SPARE_CONNECTIONS) as stores:
        app = builder.app(
            stores, runtime=runtime, heartbeat_runner=heartbeat_runner, push=push, leave=leave
        )
        with systemd:
            yield app


def build_app(
    stores: Stores,
    *,
    settings: Settings,
    registry: Registry,
    push: PushOpener,
    listeners: Iterable[Listener] = (),
    leave: Callable[[], object] = int,
    clock: Clock,
    rng: random.Random,
    cpu: Callable[[], float] = float,
) -> App:
    """Build a worker on these stores, for tests and in memory. Its heartbeat is on its own loop.

    cpu: returns the CPU seconds that the process has used. By default it always returns 0.
    """
    builder = _Builder(settings, registry, clock=clock, rng=rng)
    runtime = builder.runtime(*listeners)
    heartbeat_runner = heartbeat_on_loop(
        workers=stores.workers,
        settings=settings.presence,
        runtime=runtime,
        cpu=cpu,
    )
    return builder.app(
        stores, runtime=runtime, heartbeat_runner=heartbeat_runner, push=push, leave=leave
    )


def longest_shutdown(settings: Settings) -> float:
    """Return the longest time from the shutdown request to the end of the process, in seconds."""
    configured = settings.drain_timeout + settings.handler.cancel_grace + settings.exit_timeout
    return configured + SHUTDOWN_SECONDS
