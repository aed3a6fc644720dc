"""Ticks of schedules in virtual time, while workers crash: each once, and none lost.

The requests are deleted as soon as they have ended, so that only LastTick can show that a tick was
made.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

import pytest

from simulation.cron import run_cron
from streamer_store import AsyncRequest, ScheduleRow, writes
from streamer_store import schedule_rows as module
from streamer_store.engine import ConditionFailed, Put, Update
from streamer_store.schedule_row import tick_id
from streamer_store.schedule_rows import ScheduleTable
from streamer_store.schema import REQUESTS
from streamer_store.values import Item
from streamer_store.writes import enqueue

CONTROL_SEEDS = range(12)


@pytest.mark.parametrize("seed", range(3))
def test_every_tick_is_made_once_while_workers_are_killed(seed: int) -> None:
    """One every two seconds, for five minutes, with faulty writes. Two deployments tick.

    Proves CRON-1.
    """
    violations, created = run_cron(seed)
    assert violations == []
    assert len(created) >= 15


def test_clocks_that_differ_by_seconds_make_no_tick_twice() -> None:
    """The workers' clocks are up to five seconds off."""
    violations, _ = run_cron(7, skew=True, seconds=180)
    assert violations == []


def _last_tick_moves_first(patch: pytest.MonkeyPatch) -> None:
    async def make_tick(
        self: ScheduleTable, seen: ScheduleRow, tick: datetime, request: AsyncRequest
    ) -> bool:
        row = replace(seen, last_tick=tick, made_tick=tick)
        if not await self.change(seen, row):
            return False
        await self._engine.put(enqueue(_item(self, seen, tick, request)))
        return True

    patch.setattr(ScheduleTable, "make_tick", make_tick)


def _the_request_is_put_first(patch: pytest.MonkeyPatch) -> None:
    async def make_tick(
        self: ScheduleTable, seen: ScheduleRow, tick: datetime, request: AsyncRequest
    ) -> bool:
        with suppress(ConditionFailed):
            await self._engine.put(enqueue(_item(self, seen, tick, request)))
        return await self.change(seen, replace(seen, last_tick=tick, made_tick=tick))

    patch.setattr(ScheduleTable, "make_tick", make_tick)


def _the_put_has_no_condition(patch: pytest.MonkeyPatch) -> None:
    change = module._change

    def unconditional(seen: ScheduleRow, row: ScheduleRow) -> Update:
        return replace(change(seen, row), conditions=())

    patch.setattr(module, "_change", unconditional)
    patch.setattr(writes, "enqueue", lambda item: Put(table=REQUESTS, item=item))


def _item(table: ScheduleTable, seen: ScheduleRow, tick: datetime, request: AsyncRequest) -> Item:
    own = replace(request, request_id=tick_id(seen.name, tick))
    return table._producer.prepare_own(own).item


@pytest.mark.parametrize(
    ("broken", "sign"),
    [
        (_last_tick_moves_first, "is lost"),
        (_the_request_is_put_first, "was made 2 times"),
        (_the_put_has_no_condition, "times"),
    ],
)
def test_the_checks_detect_ticks_that_are_made_otherwise(
    broken: Callable[[pytest.MonkeyPatch], None], sign: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative controls: each broken variant has a violation within a few runs."""
    broken(monkeypatch)
    crons = {"reports": "*/2 * * * * *", "mails": "*/3 * * * * *"}
    for seed in CONTROL_SEEDS:
        violations, _ = run_cron(seed, crons=crons, seconds=120)
        if any(sign in violation for violation in violations):
            return
    pytest.fail("no violation was found")


def test_the_same_runs_have_no_violation_otherwise() -> None:
    """The schedules of the negative controls, with nothing broken."""
    crons = {"reports": "*/2 * * * * *", "mails": "*/3 * * * * *"}
    assert run_cron(CONTROL_SEEDS[0], crons=crons, seconds=120)[0] == []
