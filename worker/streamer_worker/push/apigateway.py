"""Posts to connections through the management API of API Gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import anyio
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession
from botocore.exceptions import ClientError

from streamer_store.dynamo.connecting import client_config, default_region, new_session
from streamer_store.dynamo.credentials import CredentialPrograms
from streamer_worker.push.endpoints import region_of
from streamer_worker.push.errors import Gone, PushError, PushFailed

_OK: Final = 200
_GONE: Final = 410
# Clients that are kept open, besides those in use.
_MAX_CLIENTS: Final = 32


@dataclass(slots=True)
class _Client:
    """The client of one endpoint, and how many of its calls are under way."""

    api: Any
    stack: AsyncExitStack
    calls: int = 0


class RedirectRefused(aiohttp.ClientError):
    """An endpoint answered with a redirect."""


async def _refuse_redirect(
    _session: aiohttp.ClientSession, _context: object, redirect: aiohttp.TraceRequestRedirectParams
) -> None:
    raise RedirectRefused(f"the endpoint answered with a redirect ({redirect.response.status})")


class _DirectSession(AIOHTTPSession):
    """Refuses redirects: their target has not passed the allow-list of hosts."""

    async def _get_session(self, proxy_url: str | None) -> aiohttp.ClientSession:
        session: aiohttp.ClientSession = await super()._get_session(proxy_url)  # type: ignore[misc]
        if not session.trace_configs:
            refusing = aiohttp.TraceConfig()
            refusing.on_request_redirect.append(_refuse_redirect)
            refusing.freeze()
            session.trace_configs.append(refusing)
        return session


class Poster:
    """A Post with one client for each endpoint. The clients used least recently are closed.

    It belongs to the event loop that opened it.
    """

    def __init__(
        self, *, session: AioSession, config: AioConfig, region: str | None, wait: float
    ) -> None:
        """Create a poster. It opens each client when it first needs it.

        region: for endpoints whose name has none.
        wait: seconds for which a post waits for a credential program.
        """
        self._session = session
        self._wait = wait
        self._programs: CredentialPrograms | None = None
        self._config = config
        self._region = region
        self._clients: dict[str, _Client] = {}
        self._opening = anyio.Lock()

    async def __call__(self, url: str, connection_id: str, data: bytes) -> None:
        """Post to a connection.

        Raises Gone if API Gateway says that the connection is closed, and PushFailed for every
        other answer that does not confirm the message.
        """
        try:
            client = await self._client(url)
            try:
                answer = await client.api.post_to_connection(ConnectionId=connection_id, Data=data)
            finally:
                client.calls -= 1
        except ClientError as error:
            raise _failure(error) from error
        except TimeoutError as error:
            raise PushFailed("timeout") from error
        except Exception as error:  # botocore raises anything for a bad answer
            cause = error.__context__ if isinstance(error.__context__, RedirectRefused) else error
            raise PushFailed(type(cause).__name__, str(cause)) from error
        if not _is_accepted(answer):
            raise PushFailed("unexpected", "the answer does not come from API Gateway")

    async def close(self) -> None:
        """Close all clients and end the credential programs."""
        if self._programs is not None:
            await self._programs.close()
        for client in self._clients.values():
            await client.stack.aclose()
        self._clients.clear()

    async def _client(self, url: str) -> _Client:
        """Return the client of an endpoint, and count a call of it. The caller counts it off."""
        client = self._clients.pop(url, None)
        if client is None:
            async with self._opening:  # opening may wait for credentials; others share it
                client = self._clients.pop(url, None) or await self._open(url)
                self._clients[url] = client
                await self._close_idle()
        self._clients[url] = client  # in the order of the last use
        client.calls += 1
        return client

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
        for url, client in list(self._clients.items())[:-_MAX_CLIENTS]:
            if not client.calls:
                del self._clients[url]
                await client.stack.aclose()


def _failure(error: ClientError) -> PushError:
    answer: dict[str, Any] = dict(error.response)
    status = _metadata(answer).get("HTTPStatusCode", 0)
    code = str(answer.get("Error", {}).get("Code") or status)
    # A 410 from a proxy must not delete a connection: it has neither of these.
    if code == "GoneException" or (status == _GONE and _metadata(answer).get("RequestId")):
        return Gone("the connection is closed")
    return PushFailed(str(status or code), f"{code}: {error}")


def _is_accepted(answer: dict[str, Any]) -> bool:
    """Return whether the answer comes from API Gateway, which sends a request id.

    Emulators send no request id, but their answer has no body. A page of a proxy has one.
    """
    metadata = _metadata(answer)
    empty = metadata.get("HTTPHeaders", {}).get("content-length") == "0"
    return metadata.get("HTTPStatusCode") == _OK and (empty or bool(metadata.get("RequestId")))


def _metadata(answer: dict[str, Any]) -> dict[str, Any]:
    metadata: dict[str, Any] = answer.get("ResponseMetadata", {})
    return metadata


@asynccontextmanager
async def open_poster(
    *, region: str | None, seconds: float, max_concurrent_posts: int
) -> AsyncIterator[Poster]:
    """Open a poster for as long as the context. Runs on asyncio only.

    region: signs for endpoints whose name has no region.
    seconds: limit for connecting, and for the answer.
    max_concurrent_posts: size of each client's connection pool.
    """
    session = new_session()
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
