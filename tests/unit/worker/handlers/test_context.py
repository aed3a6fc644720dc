"""The fractions, messages and items that a context reports."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from streamer_store import Progress, ValidationError
from streamer_worker import Context, SyncContext, handler
from streamer_worker.handlers.progress_arguments import fraction_of
from streamer_worker.testing import run_handler
from unit.worker.harness import on_asyncio

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("done", "total", "fraction"),
    [
        (None, None, None),
        (None, 10, None),
        (0, None, 0),
        (0.25, None, 0.25),
        (1.0000000001, None, 1),
        (3, 12, 0.25),
        (13, 12, 1),
        (0, 0, 1),
        (5, 0, 1),
        (0.5, 2.0, 0.25),
    ],
)
def test_a_number_of_a_total_becomes_a_fraction(done: Any, total: Any, fraction: Any) -> None:
    """More than the total is 1.0, since totals are often estimates."""
    assert fraction_of(done, total) == fraction


@pytest.mark.parametrize(
    ("done", "total"),
    [(40, None), (-1, 10), (1, -1), (float("nan"), 10), (1, float("nan")), ("3", 10), (True, 10)],
)
def test_an_invalid_fraction_or_total_is_refused(done: Any, total: Any) -> None:
    """It raises ValidationError."""
    with pytest.raises(ValidationError):
        fraction_of(done, total)


async def _three() -> AsyncIterator[str]:
    for item in "abc":
        yield item


def _generated() -> Iterator[str]:
    yield from "abc"


@pytest.mark.parametrize(
    ("items", "total", "reported"),
    [
        (lambda: ["a", "b"], None, [Progress(0.5, "Reading"), Progress(1.0, "Reading")]),
        (lambda: iter(["a", "b"]), None, [Progress(0.5, "Reading"), Progress(1.0, "Reading")]),
        (_three, 4, [Progress(fraction, "Reading") for fraction in (0.25, 0.5, 0.75)]),
        (_three, None, [Progress(None, "Reading", {"done": done}) for done in (1, 2, 3)]),
        (_generated, None, [Progress(None, "Reading", {"done": done}) for done in (1, 2, 3)]),
        (list, None, []),
    ],
    ids=["list", "iterator", "async with a total", "async", "generator", "empty"],
)
async def test_tracking_reports_after_each_item(
    items: Any, total: Any, reported: list[Progress]
) -> None:
    """It reports a fraction if the number of items is known, else their count in the details."""
    seen: list[str] = []

    @handler("read")
    async def read(_payload: dict[str, Any], ctx: Context) -> None:
        seen.extend([item async for item in ctx.track(items(), "Reading", total=total)])

    run = await run_handler(read)
    assert run.progress == reported
    assert len(seen) == len(reported)


@on_asyncio
async def test_a_plain_function_tracks_without_await() -> None:
    """Its context has `draining` and `cancelled`, too."""

    @handler("read")
    def read(_payload: dict[str, Any], ctx: SyncContext) -> list[Any]:
        items = list(ctx.track("ab", "Reading"))
        return [items, ctx.draining, ctx.cancelled]

    run = await run_handler(read)
    assert run.result == {"data": [["a", "b"], False, False]}
    assert run.progress == [Progress(0.5, "Reading"), Progress(1.0, "Reading")]


async def test_log_lines_of_a_handler_have_its_request(capsys: pytest.CaptureFixture[str]) -> None:
    """They have the action and the attempt, too."""

    @handler("report")
    async def report(_payload: dict[str, Any], ctx: Context) -> None:
        ctx.log.info("hello", rows=3)

    await run_handler(report, attempt=2)
    line = capsys.readouterr().out
    for text in ("hello", "rows", "request-1", "action", "report", "attempt"):
        assert text in line
