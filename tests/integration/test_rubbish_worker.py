"""Answers that are not DynamoDB's do not harm a worker."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any, Final

import anyio
import pytest

from integration.fast import FAST, ended
from integration.proxy import Proxy, passing
from integration.rubbish import RUBBISH, WRONG_OUTPUTS, CredentialProgram, program
from processes import PATIENCE, Process
from streamer_store import AsyncRequest, RequestStatus, Stores

__all__ = ["program"]
pytestmark = pytest.mark.anyio

# How long each kind of rubbish lasts in the trial with a worker, in seconds.
KIND_SECONDS: Final = float(os.environ.get("STREAMER_TEST_RUBBISH_SECONDS", "0.8"))
DEATHS: Final = ("worker_fenced", "dead_worker_removed", "request_rescued", "process_ending")


@pytest.mark.local
async def test_foreign_answers_cost_a_worker_nothing(
    real: tuple[Stores, dict[str, str]], plugins: str, proxy: Proxy, program: CredentialProgram
) -> None:
    """Each kind lasts for several leases while handlers end.

    Every request completes in its first attempt, and no completion is reported that the table does
    not have.
    """
    stores, settings = real
    through = {"STREAMER_ENDPOINT_URL": proxy.url, "STREAMER_PUSH": "off", "PYTHONPATH": plugins}
    with Process("run", **(FAST | settings | through | program.settings)) as worker:
        worker.event("worker_started")
        kinds = list(RUBBISH.values())
        seconds = [KIND_SECONDS * (len(kinds) + 1) * (number + 0.5) / 10 for number in range(10)]
        stored = (
            await stores.requests.enqueue_many(
                AsyncRequest(action="wait", payload={"seconds": wait}) for wait in seconds
            )
        ).records
        ids = [request.request_id for request in stored]
        await _all_run(stores, ids)
        program.write(WRONG_OUTPUTS["no JSON"])
        await _check_during_one_kind(stores, worker, ids)
        program.work()
        for kind in kinds:
            proxy.fault = kind
            await _check_during_one_kind(stores, worker, ids)
        proxy.fault = passing
        requests = await ended(stores, *ids)
        assert {(request.status, request.retry_count) for request in requests} == {
            (RequestStatus.COMPLETED, 0)
        }
        assert _events(worker, *DEATHS) == []
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0


async def _all_run(stores: Stores, ids: list[str]) -> None:
    statuses: set[RequestStatus] = set()
    with anyio.fail_after(PATIENCE):
        while statuses != {RequestStatus.PROCESSING}:
            await anyio.sleep(0.05)
            requests = (await stores.requests.get_many(ids)).values()
            statuses = {request.status for request in requests}


async def _check_during_one_kind(stores: Stores, worker: Process, ids: list[str]) -> None:
    """Let one kind last. Check that requests reported as completed are COMPLETED in the table."""
    began = time.monotonic()
    while time.monotonic() < began + KIND_SECONDS:
        reported = {request["request_id"] for request in _events(worker, "request_finished")}
        requests = (await stores.requests.get_many(ids)).values()
        done = {
            request.request_id for request in requests if request.status is RequestStatus.COMPLETED
        }
        assert reported <= done
        await anyio.sleep(KIND_SECONDS / 10)


def _events(worker: Process, *names: str) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in worker.lines if line.startswith("{")]
    return [entry for entry in entries if entry.get("event") in names]
