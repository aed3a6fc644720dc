"""The loop of the periodic services."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

from streamer_store import StoreUnavailable
from streamer_worker.concurrency.periodic import run_every
from streamer_worker.events import StepFailed
from support import make_runtime
from unit.worker.harness import Recorder, virtual_time

pytestmark = pytest.mark.anyio


class Steps:
    """Takes one entry of a script per step: an exception is raised, anything else returned."""

    def __init__(self, *script: object) -> None:
        self._script = list(script)
        self.times: list[float] = []
        self.done = anyio.Event()

    async def step(self) -> object:
        self.times.append(anyio.current_time())
        if not self._script:
            self.done.set()
            await anyio.sleep_forever()
        entry = self._script.pop(0)
        if isinstance(entry, BaseException):
            raise entry
        return entry

    @property
    def waits(self) -> list[float]:
        return [after - before for before, after in zip(self.times, self.times[1:], strict=False)]


async def run(
    steps: Steps, recorder: Recorder, pause: Callable[[object], float] = lambda _: 3.0
) -> None:
    step: Callable[[], Awaitable[object]] = steps.step
    runtime = make_runtime(recorder)
    async with anyio.create_task_group() as tasks:

        async def loop() -> None:
            await run_every(pause, step, name="sweep", runtime=runtime)

        tasks.start_soon(loop)
        await steps.done.wait()
        tasks.cancel_scope.cancel()


@virtual_time
async def test_the_pause_comes_from_the_counts() -> None:
    """`pause` gets the result of the step, and the loop waits for as long as it returns."""
    steps = Steps(1.0, 7.0, 2.0)
    await run(steps, Recorder(), pause=lambda counts: float(str(counts)))
    assert steps.waits == [1.0, 7.0, 2.0]


@pytest.mark.parametrize(
    "error",
    [StoreUnavailable("away"), ValueError("a mistake"), ExceptionGroup("two", [KeyError("x")])],
    ids=lambda error: type(error).__name__,
)
@virtual_time
async def test_a_failing_step_is_emitted_and_the_loop_continues(error: Exception) -> None:
    """StepFailed has the name of the loop and the error. The next step follows."""
    recorder = Recorder()
    await run(Steps(error, 1), recorder)
    assert recorder.events == [StepFailed(loop="sweep", error=error)]


@virtual_time
async def test_a_failing_pause_is_a_failing_step() -> None:
    """An error of `pause` does not end the loop either."""
    recorder = Recorder()
    steps = Steps("no number", "2.0")
    await run(steps, recorder, pause=lambda counts: float(str(counts)))
    assert [type(event.error) for event in recorder.of(StepFailed)] == [ValueError]
    assert steps.waits[1] == 2.0


@virtual_time
async def test_pauses_grow_while_steps_fail() -> None:
    """They grow from 0.5 s to 30 s, with jitter."""
    steps = Steps(*[ValueError(str(attempt)) for attempt in range(10)])
    await run(steps, Recorder())
    for wait, step in zip(steps.waits, [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30], strict=True):
        assert step / 2 <= wait <= step


@virtual_time
async def test_a_success_resets_the_backoff() -> None:
    """The pause after the next failure is short again."""
    steps = Steps(*[ValueError()] * 6, 1, ValueError())
    await run(steps, Recorder())
    assert steps.waits[6] == 3.0
    assert steps.waits[7] <= 0.5


async def test_cancellation_ends_the_loop_and_is_no_failure() -> None:
    """A loop that is cancelled in its step ends at once and emits nothing."""
    recorder = Recorder()
    await run(Steps(), recorder)
    assert recorder.events == []
