"""Logs what would be posted, for development without API Gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from streamer_worker.events import Events, PushLogged
from streamer_worker.push.deliveries import Post

_DATA_CHARS: Final = 2_000


@asynccontextmanager
async def open_log_post(events: Events) -> AsyncIterator[Post]:
    """Yield a Post that emits PushLogged instead of posting."""

    async def post(url: str, connection_id: str, data: bytes) -> None:
        text = data.decode()[:_DATA_CHARS]
        events.emit(PushLogged(connection_id=connection_id, url=url, data=text))

    yield post
