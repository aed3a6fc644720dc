"""The local variables of a failed handler are freed as soon as its outcome is decided."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup

from streamer_store import AsyncRequest
from streamer_store.versions import cancel_version
from streamer_worker import CallNext, Context, Handler, handler
from streamer_worker.events import RequestFinished
from streamer_worker.execution.attempt import Interruption
from unit.worker.benches import DispatchBench
from unit.worker.execution import locals as ways
from unit.worker.execution.locals import Local, Locals
from unit.worker.faulty_engine import PATIENCE, moves_to
from unit.worker.harness import World, on_asyncio

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_collection")]


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Disable the garbage collector, so that only reference counts free objects."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def held() -> Locals:
    return Locals()


async def run(world: World, work: Handler) -> str:
    return await DispatchBench(world, work).run(await world.claim("fail", max_retries=3))


def by_name(way: Callable[..., Any]) -> str:
    return way.__name__


@pytest.mark.parametrize("fail", ways.FAILURES, ids=by_name)
async def test_of_a_handler_that_raises(
    fail: Callable[[Local], Any], world: World, held: Locals
) -> None:
    """Whatever it raises, and although the exception is in a local variable."""
    assert await run(world, ways.failing(held, fail)) in {"failed", "retried", "snoozed"}
    assert (held.made, held.alive) == (1, 0)


@on_asyncio
@pytest.mark.parametrize("fail", ways.FAILURES, ids=by_name)
async def test_of_a_function_that_raises_in_a_thread(
    fail: Callable[[Local], Any], world: World, held: Locals
) -> None:
    """Neither the thread nor the future of its call keeps the exception."""
    assert await run(world, ways.failing_in_thread(held, fail)) in {"failed", "retried", "snoozed"}
    assert (held.made, held.alive) == (1, 0)


@on_asyncio
@pytest.mark.parametrize("make", [ways.failing, ways.failing_in_thread], ids=by_name)
async def test_of_a_handler_whose_exception_middleware_catches(
    make: Callable[..., Handler], world: World, held: Locals
) -> None:
    """The worker itself makes no cycle of references."""

    async def catch(call_next: CallNext, request: AsyncRequest, ctx: Context) -> Any:
        try:
            return await call_next(request, ctx)
        except ValueError:
            return "caught"

    work = replace(make(held, ways.plain), middleware=(catch,))
    assert await run(world, work) == "completed"
    assert (held.made, held.alive) == (1, 0)


@on_asyncio
@pytest.mark.parametrize(
    "fail",
    [
        ways.in_task_group,
        ways.in_gather,
        ways.in_async_generator,
        ways.in_context_manager,
    ],
    ids=by_name,
)
async def test_of_a_handler_that_awaits_what_raises(
    fail: Callable[[Local], Any], world: World, held: Locals
) -> None:
    """In tasks, threads, generators and context managers."""
    assert await run(world, ways.failing_async(held, fail)) == "retried"
    assert (held.made, held.alive) == (1, 0)


@pytest.mark.parametrize("fail", [ways.from_variable, ways.group, ways.unreadable], ids=by_name)
async def test_while_the_outcome_is_not_written_yet(
    fail: Callable[[Local], Any], world: World, held: Locals
) -> None:
    """An outage of the table does not keep them."""
    bench = DispatchBench(world, ways.failing(held, fail))
    claim = await world.claim("fail", max_retries=3)
    fault = world.engine.hold("update", when=moves_to("RETRYING"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run, claim)
        await fault.wait_reached()
        counts = (held.made, held.alive)
        fault.let_go()
    assert counts == (1, 0)


async def test_the_result_is_held_once_while_it_is_not_written_yet(
    world: World, held: Locals
) -> None:
    """The handler's own object is freed once it is serialized."""

    class Result(dict[str, Any]):
        pass

    @handler("work")
    async def work(_payload: dict[str, Any], _ctx: Context) -> Result:
        result = Result(n=1)
        result.local = held.new()  # type: ignore[attr-defined]
        return result

    bench = DispatchBench(world, work)
    claim = await world.claim("work")
    fault = world.engine.hold("update", when=moves_to("COMPLETED"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run, claim)
        await fault.wait_reached()
        counts = (held.made, held.alive)
        fault.let_go()
    assert counts == (1, 0)
    assert (await world.get(claim)).result == {"n": 1}


def interrupt(reason: Interruption) -> Callable[[DispatchBench, Any], None]:
    return lambda bench, _claim: bench.dispatcher.interrupt_all(reason)


def cancel(bench: DispatchBench, claim: Any) -> None:
    bench.dispatcher.cancel(frozenset({cancel_version(claim.version)}))


@pytest.mark.parametrize(
    ("end", "status"),
    [
        pytest.param(interrupt(Interruption.TIMEOUT), "timeout", id="timeout"),
        pytest.param(interrupt(Interruption.RELEASED), "released", id="released"),
        pytest.param(interrupt(Interruption.FENCED), "rescued", id="fenced"),
        pytest.param(cancel, "cancelled", id="cancelled"),
    ],
)
@pytest.mark.parametrize("raises", [False, True])
async def test_of_a_handler_that_is_interrupted(
    end: Callable[[DispatchBench, Any], None],
    status: str,
    world: World,
    held: Locals,
    *,
    raises: bool,
) -> None:
    """Whether it raises the cancellation or another exception."""
    started = anyio.Event()

    @handler("wait")
    async def wait(_payload: dict[str, Any], _ctx: Context) -> None:
        local = held.new()
        started.set()
        try:
            await anyio.sleep_forever()
        except BaseException as error:  # noqa: BLE001
            cancellation = error
            if raises:
                ways.with_cause(local)
            raise cancellation from None

    bench = DispatchBench(world, wait)
    claim = await world.claim("wait", max_retries=3)
    statuses: list[str] = []

    async def run_one(tasks: TaskGroup) -> None:
        statuses.append(await bench.dispatcher.run_one(bench.assigned(claim), tasks))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_one, tasks)
        await started.wait()
        end(bench, claim)
    assert statuses == [status]
    assert (held.made, held.alive) == (1, 0)


@on_asyncio
async def test_of_a_handler_that_ends_after_its_grace_period(world: World, held: Locals) -> None:
    """Nobody reads what a stuck handler raises."""
    go = anyio.Event()

    @handler("fail", timeout=0.01)
    async def stuck(_payload: dict[str, Any], _ctx: Context) -> None:
        local = held.new()
        with anyio.CancelScope(shield=True):
            await go.wait()
        ways.group(local)

    bench = DispatchBench(world, stuck)
    bench.dispatcher._settings = bench.dispatcher._settings.model_copy(
        update={"cancel_grace": 0.01}
    )
    claim = await world.claim("fail", max_retries=3)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.dispatcher.run_one, bench.assigned(claim), tasks)
        with anyio.fail_after(PATIENCE):
            await world.recorder.wait_for(RequestFinished)
        before = held.alive
        go.set()
    assert bench.slots.used == 0
    assert (before, held.alive) == (1, 0)
