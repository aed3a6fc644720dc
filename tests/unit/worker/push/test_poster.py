"""The clients of the poster: how many are kept, and when they are closed."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from aiobotocore.config import AioConfig

from streamer_worker.push.apigateway import Poster
from unit.worker.faulty_engine import PATIENCE

pytestmark = pytest.mark.anyio
KEPT = 32


class Client:
    def __init__(self, url: str, session: Session) -> None:
        self.url = url
        self._session = session

    async def post_to_connection(
        self,
        *,
        ConnectionId: str,  # noqa: N803
        Data: bytes,  # noqa: N803
    ) -> dict[str, Any]:
        del Data
        assert self.url not in self._session.closed
        self._session.posting[self.url] += 1
        if ConnectionId == "slow":
            await self._session.go.wait()
        self._session.posting[self.url] -= 1
        return {"ResponseMetadata": {"HTTPStatusCode": 200, "RequestId": "id"}}


class Session:
    """Stands for aiobotocore's, whose clients wait for a server."""

    def __init__(self) -> None:
        self.go = anyio.Event()
        self.posting: Counter[str] = Counter()
        self.closed: list[str] = []
        self.closed_in_use: list[str] = []

    def set_config_variable(self, _name: str, _value: object) -> None:
        """There is no configuration."""

    def get_component(self, _name: str) -> SimpleNamespace:
        """Give a provider of credentials that has none."""
        return SimpleNamespace(providers=())

    @asynccontextmanager
    async def create_client(
        self, _service: str, *, endpoint_url: str, **_: Any
    ) -> AsyncIterator[Client]:
        await anyio.lowlevel.checkpoint()
        yield Client(endpoint_url, self)
        if self.posting[endpoint_url]:
            self.closed_in_use.append(endpoint_url)
        self.closed.append(endpoint_url)


def poster_on(session: Session) -> Poster:
    return Poster(session=session, config=AioConfig(), region=None, wait=1)  # type: ignore[arg-type]


def url(number: int) -> str:
    return f"https://host{number}/prod"


async def test_a_client_is_not_closed_while_a_post_uses_it() -> None:
    """It is closed once the post has ended, if it was used least recently."""
    session = Session()
    poster = poster_on(session)
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(poster, url(0), "slow", b"")
            tasks.start_soon(poster, url(1), "slow", b"")
            await anyio.wait_all_tasks_blocked()
            for number in range(2, 100):
                await poster(url(number), "fast", b"")
            assert not {url(0), url(1)} & set(session.closed)
            assert len(poster._clients) == KEPT + 2
            session.go.set()
        await poster(url(100), "fast", b"")
        assert {url(0), url(1)} < set(session.closed)
        assert len(poster._clients) == KEPT
        await poster.close()
    assert session.closed_in_use == []
    assert sorted(session.closed) == sorted(url(number) for number in range(101))


async def test_a_cancelled_post_does_not_keep_its_client_open() -> None:
    """The call is counted off."""
    session = Session()
    poster = poster_on(session)
    with anyio.move_on_after(0.01):
        await poster(url(0), "slow", b"")
    session.posting.clear()
    for number in range(1, KEPT + 1):
        await poster(url(number), "fast", b"")
    assert session.closed == [url(0)]
    await poster.close()
