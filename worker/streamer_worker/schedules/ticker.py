"""Makes the requests of schedules when their ticks are due."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from streamer_store import ScheduleRow, ScheduleStore, StoreError, StoreUnavailable, WorkerRow
from streamer_store.schedule_row import decode_schedules, tick_id
from streamer_worker.events import (
    ScheduleDefined,
    ScheduleSuspended,
    ScheduleTicked,
    ScheduleTicksMissed,
    StepFailed,
)
from streamer_worker.fleet.membership import Membership
from streamer_worker.fleet.server_clock import ClockSkew
from streamer_worker.fleet.view import FleetView
from streamer_worker.runtime import Runtime
from streamer_worker.schedules.definition import Definition, Definitions
from streamer_worker.schedules.planning import Plan, plan_ticks

RANK_DELAY: Final = timedelta(seconds=2)
"""For how much longer each further worker leaves a tick to those before it."""
MAX_SKEW: Final = 60.0
"""Seconds. A worker whose clock is further off makes no ticks."""
_MAX_AHEAD: Final = timedelta(minutes=10)
"""How far ahead of the own clock a LastTick can be, from another clock."""
_LISTED_EVERY: Final = timedelta(hours=1)
# A step runs so many seconds after the second in which ticks are due.
_AFTER_SECOND: Final = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """What a worker has to do for one schedule. All parts are False or None: nothing."""

    define: bool = False
    run: bool = False
    reset: bool = False
    renew: bool = False
    plan: Plan | None = None

    def __bool__(self) -> bool:
        return self.define or self.run or self.reset or self.renew or self.plan is not None


class Ticker:
    """Watches the schedules of one worker. The leader plays no part: it may not know them.

    CRON-1: the store makes a tick under the LastTick that was seen, so any number of workers may
    try at once. Ranks only save them the attempt.

    A schedule has one definition, that of the newest worker that lists the schedule. Workers with
    another one make no ticks.
    """

    def __init__(
        self,
        *,
        definitions: Definitions,
        started: datetime,
        schedules: ScheduleStore,
        membership: Membership,
        clock_skew: ClockSkew,
        is_paused: Callable[[str], bool],
        lease: float,
        runtime: Runtime,
    ) -> None:
        self._definitions = definitions
        self._started = started
        self._schedules = schedules
        self._membership = membership
        self._clock_skew = clock_skew
        self._is_paused = is_paused
        self._lease = lease
        self._clock = runtime.clock
        self._events = runtime.events
        self._view: FleetView | None = None
        self._rows: dict[str, ScheduleRow] = {}
        # Since when, on the steady clock, a schedule has had another definition.
        self._differs_since: dict[str, float] = {}
        self._next_ticks: dict[str, tuple[datetime, datetime | None]] = {}
        self._suspended: dict[str, str] = {}
        # The order that was seen last, and when, on the steady clock.
        self._ordered: dict[str, float] = {}

    async def step(self) -> int:
        """Do what is due for each schedule, and return the number of requests made.

        A schedule whose write fails is reported, and holds up no other. Raises StoreUnavailable.
        """
        made = 0
        if not self._membership.lease_is_safe:
            return made
        self._take_view(self._membership.view)
        for definition in self._definitions.values():
            try:
                made += await self._serve(definition)
            except StoreUnavailable:
                raise
            except StoreError as error:
                self._events.emit(StepFailed(loop="schedules", error=error))
        return made

    def pause(self, _: int) -> float:
        """Return the seconds until the next second begins, by the wall clock."""
        return 1 - self._clock.now().microsecond / 1e6 + _AFTER_SECOND

    def _take_view(self, view: FleetView) -> None:
        """Take over the rows of a new view. It may be older than what this worker has read."""
        if view is not self._view:
            self._view = view
            rows, _ = decode_schedules(view.controls)  # `_serve` reports what cannot be decoded
            self._rows = {row.name: row for row in rows}

    async def _serve(self, definition: Definition) -> int:
        name = definition.name
        if name not in self._rows:
            return await self._begin(definition)
        if not self._turn(definition):
            return 0
        row = await self._schedules.get(name)  # what the fleet's view shows may be seconds old
        if row is None:
            return await self._begin(definition)
        self._rows[name] = row
        turn = self._turn(definition)
        if turn.define:
            await self._define(definition, row)
        elif turn.reset:
            await self._change(row, replace(row, last_tick=self._clock.now()))
        elif turn.run:
            return await self._run(definition, row)
        elif turn.plan is not None:
            return await self._make(definition, row, turn.plan)
        elif turn.renew:
            await self._change(row, row)
        return 0

    def _turn(self, definition: Definition) -> _Turn:
        """Return what this worker has to do now, as far as it knows the row."""
        row, now = self._rows[definition.name], self._clock.now()
        if row.definition != definition.digest:
            return _Turn(define=self._may_define(row))
        self._differs_since.pop(row.name, None)
        if reason := self._reason_to_wait(row, now):
            self._suspend(row.name, reason)
            return _Turn(reset=abs(self._clock_skew()) <= MAX_SKEW)
        self._suspended.pop(row.name, None)
        rank = self._rank(row)
        has_order = row.run is not None and self._order_is_due(row.run, rank)
        is_first = rank == 0
        next_tick = self._next_tick(definition, row)
        plan = None
        if next_tick is not None and now - next_tick >= rank * RANK_DELAY:
            paused = self._is_paused(row.name)
            plan = plan_ticks(definition, last_tick=row.last_tick, now=now, paused=paused)
        return _Turn(
            run=has_order,
            plan=plan,
            renew=is_first and now - row.listed_at >= _LISTED_EVERY,
        )

    def _order_is_due(self, order: str, rank: int) -> bool:
        """Return whether an operator's order was left long enough to the workers before this."""
        now = self._clock.steady()
        if order not in self._ordered:
            self._ordered = {order: now}
        return now - self._ordered[order] >= rank * RANK_DELAY.total_seconds()

    def _reason_to_wait(self, row: ScheduleRow, now: datetime) -> str:
        """Return why times cannot be trusted. Empty: they can."""
        skew = self._clock_skew()
        if abs(skew) > MAX_SKEW:
            return f"this worker's clock is {skew:.0f} s from DynamoDB's"
        if row.last_tick - now > _MAX_AHEAD:
            return f"LastTick was ahead of the clock, at {row.last_tick.isoformat()}"
        return ""

    def _suspend(self, name: str, reason: str) -> None:
        """Report once that no ticks of a schedule are made."""
        if name not in self._suspended:
            self._suspended[name] = reason
            self._events.emit(ScheduleSuspended(schedule=name, reason=reason))

    def _next_tick(self, definition: Definition, row: ScheduleRow) -> datetime | None:
        """Return the first tick after LastTick. It is computed once for each LastTick."""
        known = self._next_ticks.get(row.name)
        if known is None or known[0] != row.last_tick:
            next_tick = next(definition.expression.after(row.last_tick), None)
            known = self._next_ticks[row.name] = (row.last_tick, next_tick)
        next_tick = known[1]
        return None if next_tick is None or next_tick > self._clock.now() else next_tick

    def _rank(self, row: ScheduleRow) -> int:
        """Return how many live workers with the row's definition come before this one."""
        entry = f"{row.name}#{row.definition}"
        others = [other for other in self._live() if entry in other.schedules]
        return self._membership.view.rank_among(others, row.key)

    def _live(self) -> Sequence[WorkerRow]:
        return [row for row in self._membership.view.live if not row.draining]

    def _may_define(self, row: ScheduleRow) -> bool:
        """Return whether this worker replaces the definition of others by its own.

        Only the newest of the live workers that list the schedule does. There are two cases:

        1. It started after the worker that wrote the definition.
        2. It did not. That worker has ended, or the view does not show it yet: this one waits for
           a lease first.
        """
        prefix = f"{row.name}#"
        listing = [
            other
            for other in self._live()
            if any(entry.startswith(prefix) for entry in other.schedules)
        ]
        newest = max(listing, key=lambda other: (other.started_at, other.worker_id), default=None)
        if newest is None or newest.worker_id != self._membership.view.worker_id:
            self._differs_since.pop(row.name, None)
            return False
        now = self._clock.steady()
        since = self._differs_since.setdefault(row.name, now)
        return self._started > row.defined_by or now - since >= self._lease

    async def _begin(self, definition: Definition) -> int:
        """Write the row of a schedule that has none. There is no tick for the past."""
        row = definition.row(defined_by=self._started, now=self._clock.now())
        self._rows[row.name] = stored = await self._schedules.create(row)
        if stored == row:
            self._emit_defined(definition)
        return 0

    async def _define(self, definition: Definition, row: ScheduleRow) -> None:
        """Replace the definition. With another expression or zone the ticks begin now."""
        now = self._clock.now()
        new = definition.row(defined_by=self._started, now=now)
        same_times = (new.expression, new.timezone) == (row.expression, row.timezone)
        last_tick = row.last_tick if same_times else max(now, row.last_tick)
        if await self._change(row, replace(new, last_tick=last_tick, made_tick=row.made_tick)):
            self._emit_defined(definition)

    async def _change(self, seen: ScheduleRow, row: ScheduleRow) -> bool:
        row = replace(row, listed_at=self._clock.now(), run=seen.run)
        changed = await self._schedules.change(seen, row)
        if changed:
            self._rows[row.name] = row
        return changed

    async def _run(self, definition: Definition, row: ScheduleRow) -> int:
        """Carry out an operator's order."""
        if not await self._schedules.make_run(row, definition.request(None)):
            return 0
        self._rows[row.name] = replace(row, run=None)
        self._emit_ticked(definition, str(row.run), late=None)
        return 1

    async def _make(self, definition: Definition, row: ScheduleRow, plan: Plan) -> int:
        """Make the ticks of the plan, until another worker is found to make them."""
        for made, tick in enumerate(plan.made):
            late = (self._clock.now() - tick).total_seconds()
            if not await self._schedules.make_tick(row, tick, definition.request(tick)):
                return made
            row = replace(row, last_tick=tick, made_tick=tick)
            self._rows[row.name] = row
            self._emit_ticked(definition, tick_id(row.name, tick), late=late)
        done = row.last_tick >= plan.until or await self._change(
            row, replace(row, last_tick=plan.until)
        )
        if done and plan.missed:
            self._events.emit(
                ScheduleTicksMissed(schedule=row.name, count=plan.missed, paused=plan.paused)
            )
        return len(plan.made)

    def _emit_defined(self, definition: Definition) -> None:
        self._events.emit(
            ScheduleDefined(
                schedule=definition.name,
                action=definition.action,
                expression=definition.expression.text,
                timezone=definition.expression.timezone,
            )
        )

    def _emit_ticked(self, definition: Definition, request_id: str, *, late: float | None) -> None:
        self._events.emit(
            ScheduleTicked(
                schedule=definition.name,
                action=definition.action,
                request_id=request_id,
                late=late,
            )
        )
