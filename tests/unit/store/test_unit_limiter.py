"""What a limit of capacity units promises, on trio's virtual clock."""

from __future__ import annotations

import math
from typing import Any

import anyio
import pytest
import trio.testing

from streamer_store import ValidationError
from streamer_store.unit_limiter import UnitLimiter


def run(work: object) -> float:
    """Run the coroutine function, and return how many virtual seconds it took."""

    async def timed() -> float:
        started = anyio.current_time()
        await work()  # type: ignore[operator]
        return anyio.current_time() - started

    return trio.run(timed, clock=trio.testing.MockClock(autojump_threshold=0))


def test_units_are_spread_over_seconds() -> None:
    async def work() -> None:
        limiter = UnitLimiter("max_write_units", 10)
        for _ in range(31):
            await limiter.spend(2)

    assert run(work) == pytest.approx(6)


def test_callers_at_once_share_the_limit() -> None:
    async def work() -> None:
        limiter = UnitLimiter("max_write_units", 10)
        async with anyio.create_task_group() as tasks:
            for _ in range(31):
                tasks.start_soon(limiter.spend, 1)

    assert run(work) == pytest.approx(3)


def test_a_pause_does_not_allow_a_burst() -> None:
    async def work() -> None:
        limiter = UnitLimiter("max_write_units", 10)
        await anyio.sleep(100)
        for _ in range(11):
            await limiter.spend(10)

    assert run(work) == pytest.approx(110)


def test_without_a_limit_nobody_waits() -> None:
    async def work() -> None:
        limiter = UnitLimiter("max_write_units", None)
        for _ in range(1000):
            await limiter.spend(1e9)

    assert run(work) == 0


@pytest.mark.parametrize("units", [0, -1, math.inf, math.nan, "5", True])
def test_a_limit_that_is_no_rate_is_refused(units: Any) -> None:
    with pytest.raises(ValidationError, match="max_write_units: must be a number more than 0"):
        UnitLimiter("max_write_units", units)
