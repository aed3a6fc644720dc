"""Handlers in real workers: checkpoints that survive a kill, processes, shared resources."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest

from integration.fast import FAST, ended
from plugins import plugin
from processes import PATIENCE, Process, command
from streamer_store import AsyncRequest, RequestStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streamer_store import Stores

pytestmark = [pytest.mark.anyio, pytest.mark.local]

CODE = """
    import logging, os, time
    from contextlib import asynccontextmanager
    from pathlib import Path
    import anyio
    from streamer_worker import HandlerGroup, handler

    @handler("steps")
    async def steps(payload, ctx):
        begin = ctx.last_checkpoint or 0
        for step in range(begin, payload["steps"]):
            with open(payload["file"], "a") as effects:
                effects.write(f"{ctx.attempt} {step}\\n")
            await ctx.checkpoint(step + 1)
            await ctx.progress(step + 1, total=payload["steps"])
            if step + 1 == payload["hang_at"] and ctx.attempt == 1:
                await anyio.sleep(600)
        return {"begun_at": begin}

    @handler("compute", process=True)
    def compute(payload, ctx):
        ctx.progress(0.5, f"pid {os.getpid()}")
        if payload.get("hang"):
            time.sleep(600)
        return {"pid": os.getpid()}

    def say(kind):
        logging.getLogger("kinds").warning("said", extra={"kind": kind})

    @handler("talk_task")
    async def talk_task(payload, ctx):
        say("task")

    @handler("talk_thread")
    def talk_thread(payload, ctx):
        say("thread")

    @handler("talk_process", process=True)
    def talk_process(payload, ctx):
        say("process")

    @asynccontextmanager
    async def resource():
        file = Path(os.environ["RESOURCE_FILE"])
        file.open("a").write("entered\\n")
        yield file
        file.open("a").write("left\\n")

    group = HandlerGroup(lifespan=resource)

    @group.handler("use")
    async def use(payload, ctx):
        ctx.state.open("a").write("used\\n")

    async def around(call, request, ctx):
        ctx.log.info("around", my_field=1)
        return await call(request, ctx)
"""
ENTRIES = (
    "steps = kinds:steps",
    "compute = kinds:compute",
    "talk_task = kinds:talk_task",
    "talk_thread = kinds:talk_thread",
    "talk_process = kinds:talk_process",
    "group = kinds:group",
    "[streamer_worker.middleware]",
    "around = kinds:around",
)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(plugin(tmp_path_factory.mktemp("kinds"), "kinds", CODE, *ENTRIES))


@pytest.fixture
def start(
    real: tuple[Stores, dict[str, str]],
    kinds: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Callable[..., Process]:
    """Yield a function that starts a worker. The worker is killed at the end of the test."""

    def begin() -> Process:
        more = {"PYTHONPATH": kinds, "RESOURCE_FILE": str(tmp_path / "resource")}
        worker = Process("run", **(FAST | real[1] | more))
        request.addfinalizer(lambda: worker.__exit__(None, None, None))
        worker.event("worker_started")
        return worker

    return begin


async def _enqueued(stores: Stores, action: str, **payload: object) -> str:
    request = AsyncRequest(action=action, payload=payload, max_retries=3)
    return (await stores.requests.enqueue(request)).request_id


async def _until(
    stores: Stores, request_id: str, holds: Callable[[AsyncRequest], bool]
) -> AsyncRequest:
    with anyio.fail_after(PATIENCE):
        while True:
            request = await stores.requests.get(request_id)
            if holds(request):
                return request
            await anyio.sleep(0.02)


async def _gone(pid: int) -> None:
    """Wait until the process does not exist."""
    with anyio.fail_after(PATIENCE), suppress(ProcessLookupError):
        while True:
            os.kill(pid, 0)
            await anyio.sleep(0.05)


async def test_a_killed_handler_continues_from_its_checkpoint(
    real: tuple[Stores, dict[str, str]], start: Callable[[], Process], tmp_path: Path
) -> None:
    """After SIGKILL at the third of five steps, the same attempt does the other steps elsewhere."""
    stores, _ = real
    victim = start()
    effects = tmp_path / "effects"
    request_id = await _enqueued(stores, "steps", steps=5, hang_at=3, file=str(effects))
    await _until(stores, request_id, lambda request: request.checkpoint == 3)
    victim.signal(signal.SIGKILL)
    start()
    (done,) = await ended(stores, request_id)
    assert (done.status, done.result) == (RequestStatus.COMPLETED, {"begun_at": 3})
    assert effects.read_text().splitlines() == ["1 0", "1 1", "1 2", "1 3", "1 4"]
    assert done.checkpoint is None


async def test_a_deploy_keeps_the_checkpoint_and_costs_no_attempt(
    real: tuple[Stores, dict[str, str]], start: Callable[[], Process], tmp_path: Path
) -> None:
    """After a second SIGTERM the handler is cancelled.

    Its request is released and continues elsewhere.
    """
    stores, _ = real
    first = start()
    effects = tmp_path / "effects"
    request_id = await _enqueued(stores, "steps", steps=4, hang_at=2, file=str(effects))
    await _until(stores, request_id, lambda request: request.checkpoint == 2)
    first.signal(signal.SIGTERM)
    first.event("worker_draining")
    first.signal(signal.SIGTERM)
    assert first.ended() == 0
    released = await stores.requests.get(request_id)
    assert (released.status, released.retry_count, released.checkpoint) == (
        RequestStatus.PENDING,
        0,
        2,
    )
    assert released.progress == 0.5


async def _hanging(stores: Stores) -> tuple[str, int]:
    """Enqueue a long computation. Return its request, and its process once that has begun."""
    hanging = await _enqueued(stores, "compute", hang=True)
    seen = await _until(stores, hanging, lambda request: request.progress == 0.5)
    return hanging, int((seen.progress_message or "").removeprefix("pid "))


async def test_a_handler_in_a_process_that_is_killed_fails_its_attempt_alone(
    real: tuple[Stores, dict[str, str]], start: Callable[[], Process]
) -> None:
    """The attempt fails with WORKER_CRASHED. Another handler and the worker continue."""
    stores, _ = real
    worker = start()
    first = await _enqueued(stores, "compute")
    (done,) = await ended(stores, first)
    assert done.result is not None
    hanging, pid = await _hanging(stores)
    os.kill(pid, signal.SIGKILL)
    crashed = await _until(
        stores, hanging, lambda request: request.status is RequestStatus.RETRYING
    )
    assert crashed.error_code == "WORKER_CRASHED"
    assert "SIGKILL" in (crashed.error or "")
    await stores.requests.cancel(hanging)
    (done,) = await ended(stores, await _enqueued(stores, "compute"))
    assert done.status is RequestStatus.COMPLETED
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0


async def test_cancelling_ends_the_process(
    real: tuple[Stores, dict[str, str]], start: Callable[[], Process]
) -> None:
    """The process ends even during a long computation."""
    stores, _ = real
    worker = start()
    hanging, pid = await _hanging(stores)
    await stores.requests.cancel(hanging)
    worker.event("request_finished", request_id=hanging, outcome="cancelled")
    await _gone(pid)


async def test_a_killed_worker_leaves_no_process_behind(
    real: tuple[Stores, dict[str, str]], start: Callable[[], Process]
) -> None:
    """Processes of handlers end when the worker is killed."""
    stores, _ = real
    worker = start()
    _, pid = await _hanging(stores)
    worker.signal(signal.SIGKILL)
    await _gone(pid)


async def test_a_group_opens_its_resource_once_and_closes_it_last(
    real: tuple[Stores, dict[str, str]], start: Callable[[], Process], tmp_path: Path
) -> None:
    """The worker's middleware runs around each handler, and its log lines name the request."""
    stores, _ = real
    worker = start()
    ids = [await _enqueued(stores, "use") for _ in range(3)]
    await ended(stores, *ids)
    line = worker.event("around", request_id=ids[0])
    assert (line["action"], line["attempt"], line["my_field"]) == ("use", 1, 1)
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert (tmp_path / "resource").read_text().split() == [
        "entered",
        "used",
        "used",
        "used",
        "left",
    ]


async def test_a_lifespan_that_cannot_be_entered_stops_the_start(
    real: tuple[Stores, dict[str, str]], kinds: str
) -> None:
    """The error names the actions that need it. With exit code 1 a supervisor tries again."""
    _, settings = real
    more = {"PYTHONPATH": kinds, "RESOURCE_FILE": "/nowhere/at/all"}
    done = await anyio.to_thread.run_sync(partial(command, "run", **(settings | more)))
    assert done.returncode == 1
    assert "error: the lifespan of a group cannot be entered:" in done.stderr
    assert "group of use: FileNotFoundError" in done.stderr


@pytest.mark.parametrize("kind", ["task", "thread", "process"])
async def test_log_lines_of_a_handler_name_its_request(
    kind: str, real: tuple[Stores, dict[str, str]], start: Callable[..., Process]
) -> None:
    """This holds for the standard library's logging, in tasks, threads and processes."""
    stores, _ = real
    with start() as worker:
        worker_id = worker.event("worker_started")["worker_id"]
        request_id = await _enqueued(stores, f"talk_{kind}")
        line = worker.event("said", kind=kind)
        assert (line["request_id"], line["action"]) == (request_id, f"talk_{kind}")
        assert (line["attempt"], line["worker_id"]) == (1, worker_id)
        assert line["logger"] == "kinds"
