"""API Gateway's management API: the only place that posts to connections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import anyio
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession, get_session
from botocore.exceptions import ClientError

from streamer_store.dynamo.credentials import CredentialPrograms
from streamer_store.dynamo.opening import client_config, default_region
from streamer_worker.push.endpoints import region_of
from streamer_worker.push.errors import Gone, PushError, PushFailed

_OK: Final = 200
_GONE: Final = 410
_MOST_ENDPOINTS: Final = 32


@dataclass(slots=True)
class _Client:
    client: Any
    stack: AsyncExitStack
    calls: int = 0


class RedirectRefused(aiohttp.ClientError):
    """An endpoint answered with a redirect."""


async def _refuse_redirect(
    _session: aiohttp.ClientSession, _context: object, redirect: aiohttp.TraceRequestRedirectParams
) -> None:
    raise RedirectRefused(f"it answered with a redirect ({redirect.response.status})")


class _DirectSession(AIOHTTPSession):
    """Follows no redirect: the host that it names is on no list of those that may be called."""

    async def _get_session(self, proxy_url: str | None) -> aiohttp.ClientSession:
        session: aiohttp.ClientSession = await super()._get_session(proxy_url)  # type: ignore[misc]
        if not session.trace_configs:
            refusing = aiohttp.TraceConfig()
            refusing.on_request_redirect.append(_refuse_redirect)
            refusing.freeze()
            session.trace_configs.append(refusing)
        return session


class Poster:
    """Posts, with one client for each endpoint. Those used longest ago are closed."""

    def __init__(
        self, *, session: AioSession, config: AioConfig, region: str | None, wait: float
    ) -> None:
        """`wait`: how long a post waits for a credential program, in seconds."""
        self._session = session
        self._wait = wait
        self._programs: CredentialPrograms | None = None
        self._config = config
        self._region = region
        self._clients: dict[str, _Client] = {}
        self._opening = anyio.Lock()

    async def __call__(self, url: str, connection_id: str, data: bytes) -> None:
        """Post to a connection. Raises Gone; PushFailed for each other answer that does not say
        that the message was taken.
        """
        try:
            kept = await self._client(url)
            try:
                answer = await kept.client.post_to_connection(ConnectionId=connection_id, Data=data)
            finally:
                kept.calls -= 1
        except ClientError as error:
            raise _failure(error) from error
        except TimeoutError as error:
            raise PushFailed("timeout") from error
        except Exception as error:  # whatever botocore meets in an answer that it cannot read
            cause = error.__context__ if isinstance(error.__context__, RedirectRefused) else error
            raise PushFailed(type(cause).__name__, str(cause)) from error
        if not _is_taken(answer):
            raise PushFailed("unexpected", "something other than API Gateway answered")

    async def close(self) -> None:
        if self._programs is not None:
            await self._programs.close()
        for kept in self._clients.values():
            await kept.stack.aclose()
        self._clients.clear()

    async def _client(self, url: str) -> _Client:
        """Return the endpoint's client, with one more call of it noted."""
        kept = self._clients.pop(url, None)
        if kept is None:
            async with self._opening:  # it may wait for credentials: who comes meanwhile shares it
                kept = self._clients.pop(url, None) or await self._open(url)
                self._clients[url] = kept
                await self._close_idle()
        self._clients[url] = kept  # the last is the one used last
        kept.calls += 1
        return kept

    async def _open(self, url: str) -> _Client:
        stack = AsyncExitStack()
        region = region_of(url) or self._region
        if self._programs is None:
            self._programs = CredentialPrograms(self._session, region)
            self._programs.wait_seconds = self._wait
        opened = self._session.create_client(
            "apigatewaymanagementapi",
            endpoint_url=url,
            region_name=region,
            config=self._config,
        )
        return _Client(await stack.enter_async_context(opened), stack)

    async def _close_idle(self) -> None:
        for url, kept in list(self._clients.items())[:-_MOST_ENDPOINTS]:
            if not kept.calls:
                del self._clients[url]
                await kept.stack.aclose()


def _failure(error: ClientError) -> PushError:
    answer: dict[str, Any] = dict(error.response)
    status = _metadata(answer).get("HTTPStatusCode", 0)
    code = str(answer.get("Error", {}).get("Code") or status)
    # A 410 of a proxy must not remove a connection: API Gateway's bears one of these.
    if code == "GoneException" or (status == _GONE and _metadata(answer).get("RequestId")):
        return Gone("the connection is closed")
    return PushFailed(str(status or code), f"{code}: {error}")


def _is_taken(answer: dict[str, Any]) -> bool:
    """Whether the answer is API Gateway's: it bears a request id.

    Emulators send none. Their answer has no body, where a page of a proxy has one.
    """
    metadata = _metadata(answer)
    empty = metadata.get("HTTPHeaders", {}).get("content-length") == "0"
    return metadata.get("HTTPStatusCode") == _OK and (empty or bool(metadata.get("RequestId")))


def _metadata(answer: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = answer.get("ResponseMetadata", {})
    return found


@asynccontextmanager
async def open_poster(
    *, region: str | None, seconds: float, max_concurrent_posts: int
) -> AsyncIterator[Poster]:
    """Give a poster for as long as the context. Each post has `seconds`; `region` signs for
    endpoints whose names tell none. Runs on asyncio only.
    """
    session = get_session()
    config = client_config(
        _DirectSession,
        connect_timeout=seconds,
        read_timeout=seconds,
        max_connections=max_concurrent_posts,
    )
    poster = Poster(
        session=session,
        config=config,
        region=region or default_region(session),
        wait=seconds / 4,  # a post may wait twice
    )
    try:
        yield poster
    finally:
        await poster.close()
