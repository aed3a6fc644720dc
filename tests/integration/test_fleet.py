"""Several workers as real processes on DynamoDB Local: killed, paused, drained, cancelled."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING

import anyio
import pytest

from integration.fast import FAST, FIRST_WAIT, HEARTBEAT, LEASE, scaled, slowness
from integration.fast import ended as ended_of
from processes import PATIENCE, Process, command
from streamer_store import AsyncRequest, RequestStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streamer_store import Stores

pytestmark = [pytest.mark.anyio, pytest.mark.local]


@pytest.fixture
def start(
    real: tuple[Stores, dict[str, str]], plugins: str, request: pytest.FixtureRequest
) -> Callable[..., Process]:
    """Yield a function that starts a worker. The worker is killed at the end of the test."""

    def begin(**settings: str) -> Process:
        worker = Process("run", PYTHONPATH=plugins, **(FAST | real[1] | settings))
        request.addfinalizer(lambda: worker.__exit__(None, None, None))
        return worker

    return begin


async def _enqueued(stores: Stores, action: str, **payload: object) -> str:
    request = AsyncRequest(action=action, payload=payload, max_retries=50)
    return (await stores.requests.enqueue(request)).request_id


async def _running(stores: Stores, request_id: str, *, saved: bool = False) -> AsyncRequest:
    """Wait until the request runs and has saved a checkpoint."""
    with anyio.fail_after(PATIENCE):
        while True:
            request = await stores.requests.get(request_id)
            if request.status is RequestStatus.PROCESSING and (request.checkpoint or not saved):
                return request
            await anyio.sleep(0.02)


async def _start_hanging(stores: Stores) -> AsyncRequest:
    """Return a request whose first attempt saves a checkpoint and then hangs. Later ones end."""
    request_id = await _enqueued(stores, "first_hangs")
    return await _running(stores, request_id, saved=True)


async def test_a_killed_worker_s_request_starts_elsewhere(
    real: tuple[Stores, dict[str, str]], start: Callable[..., Process]
) -> None:
    """It is rescued within the lease, three heartbeats and the first wait, and uses no attempt.

    The killed worker's row is removed.
    """
    stores, _ = real
    victim = start()
    victim.event("worker_started")
    hanging = await _start_hanging(stores)
    request_id, lost = hanging.request_id, hanging.worker_id
    other = start()
    other.event("worker_started")
    victim.signal(signal.SIGKILL)
    killed = time.monotonic()
    other.event("request_rescued", request_id=request_id, worker_id=lost)
    (ended,) = await ended_of(stores, request_id)
    took = time.monotonic() - killed
    print(f"recovery took {took:.2f} s; lease {LEASE} s, heartbeat {HEARTBEAT} s")  # noqa: T201
    assert (ended.result, ended.rescues) == ({"attempt": 1}, 1)
    assert took <= LEASE + 3 * HEARTBEAT + FIRST_WAIT + slowness()  # a second, where it is 1
    removed = other.event("dead_worker_removed", worker_id=lost, level="warning")
    assert removed["silence"] >= LEASE


async def test_repeated_kills_lose_no_request(
    real: tuple[Stores, dict[str, str]], start: Callable[..., Process], tmp_path: Path
) -> None:
    """Three workers, 300 requests, four kills under load: all complete with their effects."""
    stores, _ = real
    effects = tmp_path / "effects"
    fleet = [start(STREAMER_CONCURRENCY="8") for _ in range(3)]
    stored = (
        await stores.requests.enqueue_many(
            AsyncRequest(
                action="work", payload={"file": str(effects), "seconds": 0.4}, max_retries=50
            )
            for _ in range(300)
        )
    ).records
    ids = [request.request_id for request in stored]
    for kill in range(4):
        victim = fleet[kill % 3]
        await anyio.to_thread.run_sync(victim.seen, '"request_finished"', 10)
        victim.signal(signal.SIGKILL)
        fleet[kill % 3] = start(STREAMER_CONCURRENCY="8")
    ended = await ended_of(stores, *ids)
    assert {request.status for request in ended} == {RequestStatus.COMPLETED}
    assert set(ids) == set(effects.read_text().split())


async def test_a_deploy_costs_no_attempt(
    real: tuple[Stores, dict[str, str]], start: Callable[..., Process], tmp_path: Path
) -> None:
    """After SIGTERM under load a worker exits with 0 in time.

    Its other requests complete elsewhere.
    """
    stores, _ = real
    leaving = start(STREAMER_DRAIN_TIMEOUT="500ms")
    leaving.event("worker_started")
    payload = {"file": str(tmp_path / "effects"), "seconds": 1.5}
    stored = (
        await stores.requests.enqueue_many(
            AsyncRequest(action="work", payload=payload) for _ in range(40)
        )
    ).records
    await _running(stores, stored[0].request_id)
    leaving.signal(signal.SIGTERM)
    assert leaving.ended() == 0
    start()
    ended = await ended_of(stores, *(request.request_id for request in stored))
    assert {(request.status, request.retry_count) for request in ended} == {
        (RequestStatus.COMPLETED, 0)
    }


async def test_a_paused_worker_is_fenced(
    real: tuple[Stores, dict[str, str]], start: Callable[..., Process]
) -> None:
    """Another worker has its request meanwhile. It does not write to it, and takes a new id."""
    stores, _ = real
    zombie = start()
    first = zombie.event("worker_started")["worker_id"]
    request_id = (await _start_hanging(stores)).request_id
    other = start()
    other.event("worker_started")
    zombie.signal(signal.SIGSTOP)
    (ended,) = await ended_of(stores, request_id)
    zombie.signal(signal.SIGCONT)
    zombie.event("worker_fenced", worker_id=first)
    zombie.event("request_finished", request_id=request_id, outcome="claim_lost")
    second = zombie.event("worker_started", concurrency=32)
    assert (await stores.requests.get(request_id)) == ended
    other.signal(signal.SIGTERM)
    assert other.ended() == 0
    (after,) = await ended_of(stores, await _enqueued(stores, "wait", seconds=0.01))
    assert after.status is RequestStatus.COMPLETED
    assert after.worker_id not in {None, first}
    assert second is not None


async def test_a_running_request_is_cancelled(
    real: tuple[Stores, dict[str, str]], start: Callable[..., Process]
) -> None:
    """`cancel` works for any worker's request. One that has ended or does not exist is an error."""
    stores, settings = real
    worker = start()
    request_id = await _enqueued(stores, "wait", seconds=60)
    await _running(stores, request_id)
    ended = command("cancel", request_id, **settings)
    assert (ended.returncode, ended.stdout) == (0, f"cancelled {request_id}\n")
    finished = worker.event("request_finished", request_id=request_id)
    assert finished["outcome"] == "cancelled"
    assert (await stores.requests.get(request_id)).status is RequestStatus.CANCELLED
    done = await _enqueued(stores, "wait", seconds=0.01)
    await ended_of(stores, done)
    for missing in (done, "nobody"):
        ended = command("cancel", missing, **settings)
        assert ended.returncode == 1
        assert ended.stderr.startswith("error: ")


async def test_drain_ends_a_worker(
    real: tuple[Stores, dict[str, str]], start: Callable[..., Process]
) -> None:
    """It finishes its handlers, exits with 0, and removes its row."""
    stores, settings = real
    worker = start()
    worker_id = worker.event("worker_started")["worker_id"]
    for columns in ("120", "50"):  # an id that is cut cannot be copied
        assert worker_id in command("workers", COLUMNS=columns, **settings).stdout
    request_id = await _enqueued(stores, "wait", seconds=1)
    await _running(stores, request_id)
    ended = command("drain", worker_id, **settings)
    assert (ended.returncode, ended.stdout) == (
        0,
        f"{worker_id} will drain at its next heartbeat\n",
    )
    assert worker.ended() == 0
    assert (await stores.requests.get(request_id)).status is RequestStatus.COMPLETED
    assert command("workers", **settings).stdout == "no workers\n"
    ended = command("drain", worker_id, **settings)
    assert (ended.returncode, "no worker has this id" in ended.stderr) == (1, True)


async def test_a_handler_that_blocks_the_loop_does_not_look_like_a_crash(
    real: tuple[Stores, dict[str, str]], start: Callable[..., Process]
) -> None:
    """It blocks for longer than the lease. An event names the handler, and it completes once."""
    stores, _ = real
    worker = start()
    other = start()
    other.event("worker_started")
    worker.event("worker_started")
    request_id = await _enqueued(stores, "block", seconds=2 * LEASE)
    (ended,) = await ended_of(stores, request_id)
    assert (ended.status, ended.retry_count) == (RequestStatus.COMPLETED, 0)
    lines = [*worker.lines, *other.lines]
    blocked = [line for line in lines if "loop_blocked" in line]
    assert len(blocked) == 1
    line = json.loads(blocked[0])
    assert (line["action"], line["request_id"]) == ("block", request_id)
    assert line["stack"].splitlines()[0].endswith("in block")


async def test_a_loop_that_is_blocked_for_too_long_ends_the_process(
    real: tuple[Stores, dict[str, str]], start: Callable[..., Process]
) -> None:
    """It logs all stacks and exits with an error.

    Another worker runs the request, until its attempts are used.
    """
    stores, _ = real
    worker = start(STREAMER_PRESENCE_STUCK_AFTER=scaled(2))
    worker.event("worker_started")
    await _enqueued(stores, "block", seconds=30)
    assert worker.ended() == 70
    assert "in block" in worker.event("process_ending")["stacks"]


async def test_a_handler_s_task_that_exits_does_not_look_like_a_stop(
    real: tuple[Stores, dict[str, str]], start: Callable[..., Process]
) -> None:
    """asyncio ends the loop then.

    An event says so, and the exit code makes a supervisor restart the worker.
    """
    stores, _ = real
    worker = start()
    await _enqueued(stores, "exits_elsewhere")
    assert worker.ended() == 70
    assert "SystemExit" in worker.event("process_ending")["reason"]


@pytest.mark.parametrize("action", ["refuse_to_end", "thread", "executor"])
async def test_a_handler_that_does_not_end_does_not_keep_the_process(
    real: tuple[Stores, dict[str, str]], start: Callable[..., Process], action: str
) -> None:
    """Its request is released, and the exit code is 0."""
    stores, _ = real
    worker = start(STREAMER_DRAIN_TIMEOUT="200ms", STREAMER_HANDLER_CANCEL_GRACE="300ms")
    request_id = await _enqueued(stores, action, seconds=60)
    await _running(stores, request_id)
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    stored = await stores.requests.get(request_id)
    assert (stored.status, stored.retry_count) == (RequestStatus.PENDING, 0)
    assert await stores.workers.list() == []
