"""The fixture `streamer`, in tests that are not async."""

from __future__ import annotations

from typing import Any

import pytest

from streamer_worker import Context, Handler, handler
from streamer_worker.testing.fixtures import Streamer, streamer

__all__ = ["streamer"]


@handler("double")
async def double(payload: dict[str, int], ctx: Context) -> int:
    if ctx.attempt == 1:
        raise ValueError("not at first")
    return 2 * payload["n"]


@pytest.fixture
def streamer_handlers() -> list[Handler]:
    return [double]


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
