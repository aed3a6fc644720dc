"""Pauses of real workers: `pause` and `resume` beside a fleet that is killed and deployed."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from typing import Final

import pytest

from integration.fast import FAST, HEARTBEAT, ended
from processes import Process
from streamer_store import AsyncRequest, RequestStatus, Stores

pytestmark = [pytest.mark.anyio, pytest.mark.local]
COUNT: Final = 30
REASON: Final = "upgrade of the database"


async def _enqueue(stores: Stores, action: str) -> list[str]:
    request = AsyncRequest(action=action, payload={"seconds": 0})
    summary = await stores.requests.enqueue_many([request] * COUNT)
    return [record.request_id for record in summary.records]


async def _statuses(stores: Stores, ids: list[str]) -> set[RequestStatus]:
    return {request.status for request in (await stores.requests.get_many(ids)).values()}


def _run(command: str, settings: dict[str, str], *arguments: str) -> None:
    with Process(command, "--action", "wait", *arguments, **settings) as process:
        assert process.ended() == 0


async def test_a_paused_action_waits_while_workers_are_killed_and_deployed(
    real: tuple[Stores, dict[str, str]], plugins: str
) -> None:
    """All know it within a heartbeat, new ones from their start, and other actions go on."""
    stores, settings = real
    settings |= FAST | {"PYTHONPATH": plugins}
    with ExitStack() as stack:

        def start() -> Process:
            return stack.enter_context(Process("run", **settings))

        fleet = [start() for _ in range(3)]
        for worker in fleet:
            worker.event("worker_started")
        await ended(stores, *await _enqueue(stores, "wait"))
        _run("pause", settings, "--reason", REASON)
        began = time.monotonic()
        for worker in fleet:
            assert worker.event("pause_started", reason=REASON)["name"] == "wait"
        assert time.monotonic() - began <= 2 * HEARTBEAT
        paused = await _enqueue(stores, "wait")
        fleet.pop().signal(signal.SIGKILL)
        fleet += [start(), start()]
        for worker in fleet:
            worker.event("worker_started")
        for _ in range(3):
            await ended(stores, *await _enqueue(stores, "block"))
        assert await _statuses(stores, paused) == {RequestStatus.PENDING}
        _run("resume", settings)
        await ended(stores, *paused)
        assert await _statuses(stores, paused) == {RequestStatus.COMPLETED}
