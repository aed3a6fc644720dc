"""The fixture `streamer`, in tests that are not async."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from streamer_worker import Context, Handler, HandlerGroup, handler
from streamer_worker.testing.fixtures import Streamer, streamer

__all__ = ["streamer"]


@asynccontextmanager
async def open_database() -> AsyncIterator[int]:
    yield pytest.fail("a test has entered the real lifespan")


database = HandlerGroup(lifespan=open_database)


@database.handler("read")
async def read(_payload: dict[str, Any], ctx: Context[int]) -> int:
    return ctx.state


@handler("double")
async def double(payload: dict[str, int], ctx: Context) -> int:
    if ctx.attempt == 1:
        raise ValueError("not at first")
    return 2 * payload["n"]


@pytest.fixture
def streamer_handlers() -> list[Handler | HandlerGroup[int]]:
    return [double, database]


@pytest.fixture
def streamer_options() -> dict[str, Any]:
    return {"states": {database: 7}}


def test_groups_have_the_states_of_the_options(streamer: Streamer) -> None:
    """The lifespan is not entered."""
    assert streamer.run("read").result == {"data": 7}


def test_a_request_runs_and_its_result_is_pushed(streamer: Streamer) -> None:
    """It is retried once before."""
    streamer.call(streamer.worker.connect, "c1")
    request = streamer.run("double", {"n": 4}, connection_id="c1", max_retries=1)
    assert (request.result, request.retry_count) == ({"data": 8}, 1)
    assert [message.connection_id for message in streamer.delivered] == ["c1"]


def test_each_test_has_a_worker_of_its_own(streamer: Streamer) -> None:
    """Its tables are empty."""
    assert streamer.delivered == []

    async def stored() -> list[Any]:
        return [
            request async for request in streamer.worker.stores.requests.get_by_connection("c1")
        ]

    assert streamer.call(stored) == []
