"""Handlers that fork, leave threads behind, and change their process, in a real worker."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio
import pytest

from integration.fast import ended
from integration.hostile import CODES, HOSTILE, HOSTILE_ENTRIES, WAYS, WEIGHTS
from plugins import plugin
from processes import PATIENCE, Process
from streamer_store import AsyncRequest, RequestStatus, Stores

pytestmark = [pytest.mark.anyio, pytest.mark.local]

REQUESTS = 1000


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(plugin(tmp_path_factory.mktemp("hostile"), "hostile", HOSTILE, *HOSTILE_ENTRIES))


@pytest.fixture
def worker(real: tuple[Stores, dict[str, str]], hostile: str) -> Iterator[Process]:
    """Yield a worker with one process for handlers and few threads, so that all are used again."""
    more = {"STREAMER_HANDLER_PROCESSES": "1", "STREAMER_HANDLER_THREADS": "4"}
    with Process("run", **(real[1] | more | {"PYTHONPATH": hostile})) as started:
        started.event("worker_started")
        yield started


def request_for(kind: str, how: str, token: str) -> AsyncRequest:
    return AsyncRequest(action=kind, payload={"token": token, "how": how}, max_retries=0)


def check(request: AsyncRequest) -> None:
    """Check that the request has its own result, and that it saw no data of other requests."""
    payload, result = request.payload or {}, request.result or {}
    assert request.status is RequestStatus.COMPLETED, request
    assert (result["token"], result["id"]) == (payload["token"], request.request_id)
    assert result["checkpoint"] is None
    assert result["left"] == {"var": None, "precision": 28, "fields": None}
    assert result["code"] == CODES.get(payload["how"]), payload
    assert request.progress_message in {None, payload["token"]}


def check_lines(lines: list[str], requests: list[AsyncRequest]) -> None:
    """Check that each log line of a handler names its own request and has its own fields."""
    ids = {(request.payload or {})["token"]: request.request_id for request in requests}
    answered = [record for record in map(json.loads, lines) if record["event"] == "answered"]
    assert {record["token"] for record in answered} == set(ids)
    for record in answered:
        token = record["token"]
        assert (record["bound"], record["leaked"]) == (token, token)
        assert record["request_id"] == ids[token]


async def test_each_request_of_many_has_its_own(
    real: tuple[Stores, dict[str, str]], worker: Process
) -> None:
    """1,000 handlers misbehave at random, in one worker with one process.

    Each request has its own result, context and log fields. None has a checkpoint of another. The
    worker survives.
    """
    stores, _ = real
    rng = random.Random(11)
    requests: list[AsyncRequest] = []

    async def enqueue(number: int, kind: str, how: str) -> None:
        requests.append(await stores.requests.enqueue(request_for(kind, how, f"t{number}")))

    async with anyio.create_task_group() as tasks:
        for number in range(REQUESTS):
            kind = rng.choice(sorted(WAYS))
            # Forks cost time, and the end of a Pool a tenth of a second.
            how = rng.choices(WAYS[kind], WEIGHTS[kind])[0]
            tasks.start_soon(enqueue, number, kind, how)
    await anyio.to_thread.run_sync(worker.seen, '"request_finished"', REQUESTS, 3 * PATIENCE)
    done = await ended(stores, *[request.request_id for request in requests])
    for request in done:
        check(request)
    inside = {(request.result or {})["pid"] for request in done if request.action == "process"}
    assert len(inside) == 1
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    check_lines([line for line in worker.lines if line.startswith("{")], requests)


async def test_each_way_ends_its_forked_child_alone(
    real: tuple[Stores, dict[str, str]], worker: Process
) -> None:
    """A forked child of a task, thread or process ends at once, in three cases.

    It leaves its handler, it returns to the event loop, or it is terminated. The worker does not
    drain.
    """
    stores, _ = real
    ids = [
        (await stores.requests.enqueue(request_for(kind, how, f"{kind}-{how}"))).request_id
        for kind, ways in WAYS.items()
        for how in ways
    ]
    for request in await ended(stores, *ids):
        check(request)
    assert not any('"worker_draining"' in line for line in worker.lines)
    assert len(children(worker.pid)) == 1
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0


def children(pid: int) -> list[str]:
    """Return the processes that this process has started, in any of its threads."""
    return [
        child
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


async def test_a_killed_worker_leaves_no_process_of_a_handler(
    real: tuple[Stores, dict[str, str]], worker: Process
) -> None:
    """The processes of handlers and all their children end, even if a forked child still lives."""
    stores, _ = real
    pids: dict[str, int] = {}
    for action in ("starts_more", "forks_on"):
        await stores.requests.enqueue(request_for(action, "", "one"))
        line = await anyio.to_thread.run_sync(partial(worker.event, "began", action=action))
        pids[action] = line["child"]
    try:
        worker.signal(signal.SIGKILL)
        await gone(pids["starts_more"])
        os.kill(pids["forks_on"], 0)
    finally:
        os.kill(pids["forks_on"], signal.SIGKILL)


async def gone(pid: int) -> None:
    """Wait until the process does not exist."""
    with anyio.fail_after(PATIENCE), suppress(ProcessLookupError):
        while True:
            os.kill(pid, 0)
            await anyio.sleep(0.05)
