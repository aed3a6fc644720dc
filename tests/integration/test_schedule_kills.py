"""Schedules of real workers that are killed: each tick once. Two deployments both tick."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import anyio
import pytest

from integration.fast import FAST
from processes import PATIENCE, Process
from streamer_store import RequestStatus, Stores
from streamer_store.reserved_ids import CRON_PREFIX
from streamer_store.schedule_row import tick_id
from streamer_worker.cron import CronExpression

pytestmark = [pytest.mark.anyio, pytest.mark.local]

SECONDS: Final = float(os.environ.get("STREAMER_TEST_KILL_SECONDS", "12"))
KILL_EVERY: Final = 2.0
CRON: Final = "*/2 * * * * *"


def schedules(action: str) -> dict[str, str]:
    """Return the setting of a deployment's schedule, whose name is its action."""
    text = f'{{"{action}": {{"cron": "{CRON}", "missed": "all", "payload": {{"seconds": 0}}}}}}'
    return {"STREAMER_SCHEDULES": text}


class Collector:
    """Takes the requests of ticks out of the table once they are done, and counts them.

    So a tick that is made again after its request is gone is counted twice.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self.done: Counter[str] = Counter()

    async def collect(self) -> None:
        completed = self._stores.requests.get_by_status(RequestStatus.COMPLETED)
        for request_id in [request.request_id async for request in completed]:
            if await self._stores.requests.get_many([request_id]):  # the index lags
                self.done[request_id] += 1
                await self._stores.requests.delete(request_id)

    async def run(self) -> None:
        while True:
            await self.collect()
            await anyio.sleep(0.2)

    async def wait_for(self, ids: list[str]) -> None:
        with anyio.fail_after(PATIENCE):
            while any(request_id not in self.done for request_id in ids):
                await self.collect()
                await anyio.sleep(0.2)


async def test_every_tick_is_made_once_while_real_workers_are_killed(
    real: tuple[Stores, dict[str, str]], plugins: str
) -> None:
    """A random one of four workers, two of each deployment, is killed every two seconds."""
    stores, settings = real
    settings |= {"PYTHONPATH": plugins}
    rng = random.Random(7)
    collector = Collector(stores)
    deployments = {"wait": schedules("wait"), "block": schedules("block")}
    with ExitStack() as stack:

        def start(deployment: str) -> Process:
            more = FAST | settings | deployments[deployment]
            return stack.enter_context(Process("run", **more))

        fleet = [(name, start(name)) for name in deployments for _ in range(2)]
        for _, process in fleet:
            process.event("worker_started")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(collector.run)
            with anyio.move_on_after(SECONDS):
                while True:
                    await anyio.sleep(KILL_EVERY)
                    place = rng.randrange(len(fleet))
                    name, process = fleet[place]
                    process.signal(signal.SIGKILL)
                    fleet[place] = (name, start(name))
            tasks.cancel_scope.cancel()
        end = datetime.now(UTC)
        ids = [request_id for name in deployments for request_id in _due(collector.done, name, end)]
        assert len(ids) >= SECONDS / 2
        await collector.wait_for(ids)
        # A worker that took a tick for its own would have made it by now.
        await anyio.sleep(2 * KILL_EVERY)
        await collector.collect()
    assert {request_id: n for request_id, n in collector.done.items() if n > 1} == {}


def _due(done: Counter[str], name: str, end: datetime) -> list[str]:
    """Return the ids of all ticks from the first one that was made until the end."""
    made = [request_id for request_id in done if request_id.startswith(f"{CRON_PREFIX}{name}#")]
    first = datetime.fromisoformat(min(made).rpartition("#")[2])
    due: list[Any] = []
    for tick in CronExpression(CRON, "UTC").after(first - timedelta(seconds=1)):
        if tick > end:
            return due
        due.append(tick_id(name, tick))
    return due


async def test_an_operator_runs_a_schedule_of_a_real_worker(
    real: tuple[Stores, dict[str, str]], plugins: str
) -> None:
    """The worker makes one request with the schedule's payload, at its next look at the fleet."""
    stores, settings = real
    text = '{"wait": {"cron": "0 0 1 1 *", "payload": {"seconds": 0}}}'
    more = FAST | settings | {"PYTHONPATH": plugins, "STREAMER_SCHEDULES": text}
    with Process("run", **more) as worker:
        worker.event("schedule_defined", schedule="wait")
        with Process("schedules", "run", "wait", **more) as ordered:
            assert ordered.ended() == 0
        request_id = worker.event("schedule_ticked", schedule="wait")["request_id"]
        assert request_id in "\n".join(ordered.lines)
        worker.event("request_finished", request_id=request_id, outcome="completed")
        assert (await stores.requests.get(request_id)).result == {"waited": 0}


async def test_a_worker_with_faulty_schedules_does_not_start(
    real: tuple[Stores, dict[str, str]], plugins: str
) -> None:
    """All faults are printed, and the exit code says that a restart does not help."""
    _, settings = real
    unreadable = '{"wait": {"cron": "0 25 * * *", "timezone": "Berlin"}}'
    without_handler = '{"nobody": {"cron": "* * * * *"}, "nothing": {"action": "wait"}}'
    for schedules, faults in (
        (unreadable, ("hour '25'", "nearest is Europe/Berlin")),
        (without_handler, ("no handler of action 'nobody'", "schedules.nothing: cron is missing")),
    ):
        more = {"PYTHONPATH": plugins, "STREAMER_SCHEDULES": schedules}
        with Process("run", **(settings | more)) as worker:
            assert worker.ended() == 2
        printed = " ".join(worker.lines)
        for fault in faults:
            assert fault in printed
