"""The permits that a worker holds of the rate limits, by action and by tenant."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup
from cachetools import LRUCache

from streamer_store import Candidate, StoreError
from streamer_store.protocols import PermitStore
from streamer_store.rate_limits import limit_name
from streamer_store.rates import MICROSECONDS, Block, Rate
from streamer_worker.changes import Changes
from streamer_worker.events import RateLimitMeasured
from streamer_worker.fleet.server_clock import ServerClock
from streamer_worker.handlers.registry import Registry
from streamer_worker.intake.permits import HeldPermits, LimitCounts, Permit
from streamer_worker.runtime import Runtime

_MAX_LIMITS: Final = 10_000
_MAX_ASKS: Final = 16
"""Calls to the table at the same time."""
_SHORTEST_PAUSE: Final = 0.02
"""Seconds. Permits that become good within it wake the poller once."""
_LONGEST_PAUSE: Final = 60.0
_ASK_TIMEOUT: Final = 2.0
_AFTER_ERROR: Final = MICROSECONDS
_JITTER: Final = MICROSECONDS // 8
"""How much later than it could a worker asks again after a refusal, at most, so that not all ask
at the same moment. Permits are granted half a second before they are good, so none is lost."""
_REPORT_EVERY: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Scope:
    """Whose permits a limit has: an action's, or one tenant's requests of it."""

    action: str
    per_tenant: bool


class RateLimits:
    """Holds permits, takes one for each claim, and asks for more in a loop of its own.

    A poll never waits for the table. If a request waits for a permit (`left` is 0), the loop asks
    for some. When they are good it notifies `freed`, which wakes the poller. A permit that is not
    used is void half a second after its own time, or when the next one is good. Nobody gives it
    back. Event loop's thread only.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        permits: PermitStore,
        freed: Changes,
        server_clock: ServerClock,
        runtime: Runtime,
    ) -> None:
        self._rates = _rates(registry)
        self._permits = permits
        self._freed = freed
        self._clock = runtime.clock
        self._server_clock = server_clock
        self._rng = runtime.rng
        self._events = runtime.events
        self._held: LRUCache[str, tuple[_Scope, HeldPermits]] = LRUCache(_MAX_LIMITS)
        self._wanted: dict[str, tuple[_Scope, HeldPermits]] = {}
        self._changes = Changes()
        self._reported_at = -math.inf

    def limits_of(self, candidate: Candidate) -> tuple[str, ...]:
        """Return the names of the limits under which the request starts, a tenant's own first.

        A tenant that waits for its own limit asks nothing of the action's.
        """
        action = candidate.action or ""
        names = []
        for per_tenant, rate in self._rates.get(action, ()):
            tenant = candidate.tenant_id if per_tenant else None
            if per_tenant and tenant is None:
                continue
            name = limit_name(action, tenant)
            if name not in self._held:
                self._held[name] = _Scope(action, per_tenant), HeldPermits(rate)
            names.append(name)
        return tuple(names)

    def left(self, name: str) -> int:
        """Return how many permits of a limit are good now. If none, the loop asks for some."""
        entry = self._held.get(name)
        if entry is None:  # forgotten, as there are too many: the next selection knows it
            return 0
        now = self._now()
        good = entry[1].good(now)
        if not good:
            self._want(name, entry, now)
        return good

    def take(self, candidate: Candidate) -> tuple[Permit, ...]:
        """Take a permit of each limit of a request whose claim is about to be sent (RATE-2)."""
        now = self._now()
        taken = []
        for name in self.limits_of(candidate):
            time = self._held[name][1].use(now)
            if time is not None:
                taken.append(Permit(name, time))
        return tuple(taken)

    def give_back(self, permits: tuple[Permit, ...]) -> None:
        """Put back the permits of a claim that was not won. They are void when they would be."""
        for permit in permits:
            entry = self._held.get(permit.name)
            if entry is not None:
                entry[1].give_back(permit.time)

    def start(self, tasks: TaskGroup, every: Callable[..., Coroutine[Any, Any, None]]) -> None:
        """Start the two loops, of which one asks and one wakes. `every` is `run_every`."""
        if self._rates:
            loops = {"permits": self.step, "permits_good": self.wake_step}
            for name, step in loops.items():
                tasks.start_soon(partial(every, _as_returned, step, name=name, sleep=self.sleep))

    async def step(self) -> float:
        """Ask for the permits that are needed. Return the seconds until the next step."""
        now = self._now()
        asks = [
            (name, entry[1], permits)
            for name, entry in self._wanted.items()
            if (permits := entry[1].to_ask(now))
        ]
        asks.sort(key=lambda ask: ask[1].asked_at)  # who has waited longest for its turn
        if asks:
            async with anyio.create_task_group() as tasks:
                for name, held, permits in asks[:_MAX_ASKS]:
                    held.asked_at = now
                    tasks.start_soon(self._ask, name, held, permits)
            self._changes.notify()
        self._report()
        if len(asks) > _MAX_ASKS:
            return 0.0
        return self._seconds_until(entry[1].next_ask(now) for entry in self._wanted.values())

    async def wake_step(self) -> float:
        """Wake the poller if permits are good. Return the seconds until the next step."""
        now = self._now()
        if [name for name, entry in self._wanted.items() if entry[1].wake(now)]:
            self._freed.notify()
        return self._seconds_until(entry[1].next_good() for entry in self._wanted.values())

    async def sleep(self, seconds: float) -> None:
        """Wait so many seconds, or until a request waits for a permit, or one was granted."""
        with anyio.move_on_after(seconds):
            await self._changes.wait()

    async def _ask(self, name: str, held: HeldPermits, permits: int) -> None:
        held.is_asking = True
        try:
            with anyio.fail_after(_ASK_TIMEOUT):
                answer = await self._permits.take(name, held.rate, permits, now=self._now())
        except (
            StoreError,
            TimeoutError,
        ):  # the calls that failed are counted, and an outage is reported
            held.refuse(self._now() + _AFTER_ERROR)
        else:
            if isinstance(answer, Block):
                held.grant(answer, self._now())
            else:
                held.refuse(answer.retry_at + self._rng.randrange(_JITTER))
        finally:
            held.is_asking = False

    def _want(self, name: str, entry: tuple[_Scope, HeldPermits], now: int) -> None:
        was_missed = entry[1].is_missed
        entry[1].miss(now)
        self._wanted[name] = entry
        if not was_missed or entry[1].to_ask(now):
            self._changes.notify()

    def _seconds_until(self, times: Iterable[int | None]) -> float:
        """Return the seconds until the first of the times that there are, within bounds."""
        longest = _REPORT_EVERY if self._wanted else _LONGEST_PAUSE
        first = min((time for time in times if time is not None), default=None)
        if first is None:
            return longest
        return min(longest, max(_SHORTEST_PAUSE, (first - self._now()) / MICROSECONDS))

    def _report(self) -> None:
        """Emit what happened to the permits of each action, once a second at most."""
        steady = self._clock.steady()
        if steady - self._reported_at < _REPORT_EVERY:
            return
        self._reported_at = steady
        now = self._now()
        totals: dict[_Scope, LimitCounts] = {}
        for name, (scope, held) in list(self._wanted.items()):
            counts = held.take_counts(now)
            total = totals.setdefault(scope, LimitCounts())
            total.granted += counts.granted
            total.refused += counts.refused
            total.expired += counts.expired
            total.saturated = max(total.saturated, counts.saturated)
            if held.is_idle:
                del self._wanted[name]
        for scope, total in totals.items():
            self._events.emit(
                RateLimitMeasured(
                    action=scope.action,
                    per_tenant=scope.per_tenant,
                    granted=total.granted,
                    refused=total.refused,
                    expired=total.expired,
                    saturated=total.saturated,
                )
            )

    def _now(self) -> int:
        return self._server_clock.microseconds()


def _as_returned(seconds: float) -> float:
    """Return the pause that a step returned."""
    return seconds


def _rates(registry: Registry) -> Mapping[str, tuple[tuple[bool, Rate], ...]]:
    """Return the rates of each action that has one: whether it is per tenant, and the rate."""
    rates: dict[str, tuple[tuple[bool, Rate], ...]] = {}
    for action, handler in registry.items():
        both = ((True, handler.limits.rate_limit_per_tenant), (False, handler.limits.rate_limit))
        given = tuple((per_tenant, rate) for per_tenant, rate in both if rate is not None)
        if given:
            rates[action] = given
    return rates
