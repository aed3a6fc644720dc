"""A notifier with a gateway that answers from a script."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import anyio

from streamer_store import EventType
from streamer_worker.events import PushTried
from streamer_worker.push.messages import (
    CompleteMessage,
    ErrorMessage,
    HandlerMessage,
    ProgressMessage,
)
from streamer_worker.push.notifier import Notifier
from streamer_worker.settings import NotifierSettings
from support import connection
from unit.worker.harness import World

ENDPOINT = "wss://abc.execute-api.us-east-1.amazonaws.com/test"
OLD = timedelta(hours=1)


class Gateway:
    """A Post with a script of answers for each connection."""

    def __init__(self) -> None:
        self.received: dict[str, list[dict[str, Any]]] = {}
        self.tried: list[tuple[float, str]] = []
        self.urls: set[str] = set()
        self.answers: dict[str, list[Exception | float]] = {}
        self.always: dict[str, Exception | float] = {}
        self.under_way = 0
        self.most = 0

    async def __call__(self, url: str, connection_id: str, data: bytes) -> None:
        self.urls.add(url)
        self.tried.append((anyio.current_time(), connection_id))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self._answer(connection_id)
        finally:
            self.under_way -= 1
        self.received.setdefault(connection_id, []).append(json.loads(data))

    async def _answer(self, connection_id: str) -> None:
        left = self.answers.get(connection_id)
        answer = left.pop(0) if left else self.always.get(connection_id, 0.01)
        if isinstance(answer, Exception):
            await anyio.sleep(0.01)
            raise answer
        await anyio.sleep(answer)

    def types(self, connection_id: str) -> list[str]:
        return [message["type"] for message in self.received.get(connection_id, [])]

    def sent(self, connection_id: str) -> list[object]:
        """Return the data of the handlers' own messages, and the types of all others."""
        return [
            message["data"] if message["type"] == "message" else message["type"]
            for message in self.received.get(connection_id, [])
        ]

    def messages(self, connection_id: str) -> list[str]:
        return [message["message"] for message in self.received.get(connection_id, [])]


class Bench:
    def __init__(self, world: World, gateway: Gateway, notifier: Notifier) -> None:
        self.world = world
        self.gateway = gateway
        self.notifier = notifier

    async def connect(
        self, *ids: str, age: timedelta = OLD, endpoint: str = ENDPOINT, **fields: Any
    ) -> None:
        for connection_id in ids:
            await self.world.stores.connections.save(
                connection(
                    connection_id,
                    endpoint=endpoint,
                    connected_at=self.world.clock.now() - age,
                    **fields,
                )
            )

    async def subscribe(
        self, *ids: str, request_id: str = "r1", types: Iterable[EventType] = EventType
    ) -> None:
        for connection_id in ids:
            await self.world.stores.subscriptions.subscribe(connection_id, request_id, types)

    def progress(
        self,
        message: str,
        *,
        request_id: str = "r1",
        own: str | None = None,
        kept: bool = False,
        **fields: Any,
    ) -> None:
        self.notifier.offer(
            ProgressMessage(
                request_id=request_id,
                connection_id=own,
                at=self.world.clock.now(),
                fraction=0.5,
                message=message,
                details=None,
                kept=kept,
                **fields,
            )
        )

    def complete(self, *, request_id: str = "r1", own: str | None = None) -> None:
        self.notifier.offer(
            CompleteMessage(
                request_id=request_id, connection_id=own, at=self.world.clock.now(), result={}
            )
        )

    def error(self, *, request_id: str = "r1", own: str | None = None) -> None:
        self.notifier.offer(
            ErrorMessage(
                request_id=request_id,
                connection_id=own,
                at=self.world.clock.now(),
                code="NO",
                text="no",
            )
        )

    def send(
        self,
        data: object,
        *,
        request_id: str = "r1",
        own: str | None = None,
        user: str | None = None,
        tenant: str | None = None,
    ) -> None:
        self.notifier.offer(
            HandlerMessage(
                request_id=request_id,
                connection_id=own,
                at=self.world.clock.now(),
                attempt=1,
                data=json.dumps(data),
                user=user,
                tenant=tenant,
            )
        )

    async def settle(self, seconds: float = 300) -> None:
        await self.notifier.flush(seconds)

    def outcomes(self) -> Counter[tuple[str, str]]:
        return Counter((event.type, event.outcome) for event in self.world.recorder.of(PushTried))


@asynccontextmanager
async def opened(world: World, **settings: Any) -> AsyncIterator[Bench]:
    gateway = Gateway()
    notifier = Notifier(
        connections=world.stores.connections,
        subscriptions=world.stores.subscriptions,
        post=gateway,
        settings=NotifierSettings(**settings),
        runtime=world.runtime,
    )
    async with notifier:
        yield Bench(world, gateway, notifier)
