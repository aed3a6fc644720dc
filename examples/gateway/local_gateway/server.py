"""The server: the page, the WebSockets and the management API on one port of this machine."""

from __future__ import annotations

import base64
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import anyio
import structlog
from aiohttp import WSMsgType, web
from anyio.abc import TaskGroup

from local_gateway.management import Management
from local_gateway.messages import Refused
from local_gateway.routes import CONNECTION_GONE, Caller, Routes
from local_gateway.sessions import Session, Sessions
from streamer_store import Clock, StoreError, Stores, SystemClock
from streamer_store.errors import ungrouped
from streamer_worker.push.messages import MAX_BYTES

LOOPBACK: Final = "127.0.0.1"
_PAGE: Final = Path(__file__).with_name("page.html")
_MAX_USER_CHARS: Final = 64
# Codes of RFC 6455, of which 4000 and above are our own.
_GOING_AWAY: Final = 1001
_CONNECTION_GONE: Final = 4410
# Seconds: between pings of the protocol, for a closing handshake, for handlers when the server
# stops, and for the removal of a row.
_HEARTBEAT: Final = 30.0
_CLOSING: Final = 2.0
_STOPPING: Final = 5.0
_REMOVING: Final = 10.0
_BACKLOG: Final = 1024
# As many as API Gateway's ids have. They become 16 characters, which may be "/" and "+".
_ID_BYTES: Final = 11
_log = structlog.get_logger("local_gateway")


class Gateway:
    """A running gateway.

    url: the address of the page: `http://127.0.0.1:PORT`.
    post_url: the address of the management API, to which workers post. It is `url`, unless they
        reach the gateway under another name.
    sessions: the open WebSockets.
    """

    def __init__(
        self,
        *,
        routes: Routes,
        tasks: TaskGroup,
        clock: Clock,
        rng: random.Random,
        post_url: str | None,
    ) -> None:
        self.url = ""
        self._post_url = post_url
        self.sessions = Sessions()
        self._routes = routes
        self._tasks = tasks
        self._clock = clock
        self._rng = rng

    @property
    def post_url(self) -> str:
        return self._post_url or self.url

    def app(self) -> web.Application:
        """Return the application of the server."""
        app = web.Application(middlewares=[self._refuse_other_sites])
        app.router.add_get("/", self._page)
        app.router.add_get("/ws", self._websocket)
        Management(sessions=self.sessions, rng=self._rng).add_routes(app)
        app.on_shutdown.append(self._close_all)
        return app

    @web.middleware
    async def _refuse_other_sites(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """Refuse what pages of other sites send: a browser lets them connect to this machine."""
        own = urlsplit(self.url).netloc
        names = {own, own.replace(LOOPBACK, "localhost")}
        if "/@connections/" in request.path:
            names.add(urlsplit(self.post_url).netloc)
        origin = request.headers.get("Origin", f"http://{request.host}")
        if request.host not in names or origin != f"http://{request.host}":
            raise web.HTTPForbidden(text="this gateway is for its own page only")
        return await handler(request)

    async def _page(self, request: web.Request) -> web.Response:
        sources = f"connect-src ws://{request.host}"
        inline = "script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
        return web.Response(
            text=await anyio.Path(_PAGE).read_text(),
            content_type="text/html",
            headers={"Content-Security-Policy": f"default-src 'none'; {sources}; {inline}"},
        )

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        """Serve a client until its WebSocket is closed. The row is there before it is open."""
        socket = web.WebSocketResponse(
            heartbeat=_HEARTBEAT, timeout=_CLOSING, max_msg_size=MAX_BYTES + 1, compress=False
        )
        user = request.query.get("user", "")
        if not 0 < len(user) <= _MAX_USER_CHARS or not user.isprintable():
            raise web.HTTPUnauthorized(text=f"?user= needs 1 to {_MAX_USER_CHARS} characters")
        if not socket.can_prepare(request):
            raise web.HTTPUpgradeRequired(text="connect with a WebSocket")
        caller = Caller(self._new_connection_id(), user)
        session = Session(caller=caller, request=request, socket=socket, now=self._clock.now())
        self.sessions.add(session)
        try:
            await self._routes.connect(caller, self.post_url.replace("http", "ws", 1))
            await socket.prepare(request)
            await self._serve(session)
        except StoreError as error:
            raise web.HTTPServiceUnavailable(text="the tables cannot be reached") from error
        finally:
            self.sessions.remove(session)
            # Not here: the server may cancel this handler, and the row would be left.
            self._tasks.start_soon(self._forget, caller)
        return socket

    async def _serve(self, session: Session) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.write_messages)
            async for frame in session.socket:
                session.last_active_at = self._clock.now()
                match frame.type:
                    case WSMsgType.TEXT:
                        await self._answer(session, frame.data)
                    case WSMsgType.BINARY:
                        session.offer(Refused("BAD_MESSAGE", "send text frames").answer())
                    case _:  # the socket is closed: a frame was too large, or no frame at all
                        break
            tasks.cancel_scope.cancel()

    async def _answer(self, session: Session, text: str) -> None:
        try:
            session.offer(await self._routes.answer(session.caller, text))
        except Refused as refused:
            session.offer(refused.answer())
            if refused.code == CONNECTION_GONE:
                session.close(_CONNECTION_GONE, refused.reason)

    async def _forget(self, caller: Caller) -> None:
        """Delete the rows of a connection. What an outage leaves, workers and the TTL delete."""
        with anyio.move_on_after(_REMOVING, shield=True):
            try:
                await self._routes.disconnect(caller)
            except StoreError as error:
                _log.warning(
                    "connection_not_removed", connection_id=caller.connection_id, error=str(error)
                )

    async def _close_all(self, _: web.Application) -> None:
        for session in self.sessions:
            session.close(_GOING_AWAY, "the gateway stops")

    def _new_connection_id(self) -> str:
        return base64.b64encode(self._rng.randbytes(_ID_BYTES)).decode()


@asynccontextmanager
async def open_gateway(
    stores: Stores,
    *,
    actions: Collection[str],
    host: str = LOOPBACK,
    port: int = 0,
    post_url: str | None = None,
    clock: Clock | None = None,
    rng: random.Random | None = None,
) -> AsyncIterator[Gateway]:
    """Run a gateway for as long as the context. Runs on asyncio only.

    - `actions`: what clients may request.
    - `host`: the address to listen on. Clients must use 127.0.0.1 or localhost, whatever it is.
    - `port`: 0 is a free one.
    - `post_url`: `http://HOST:PORT` to which workers post. Default 127.0.0.1 with the port.
    - `clock`, `rng`: the sources of times and of ids. Default the system's.

    At the end, all WebSockets are closed and their rows are removed. Raises OSError if the port is
    in use.
    """
    clock = clock or SystemClock()
    with ungrouped(OSError):
        async with anyio.create_task_group() as tasks:
            gateway = Gateway(
                routes=Routes(stores=stores, actions=actions, clock=clock),
                tasks=tasks,
                clock=clock,
                rng=rng or random.SystemRandom(),
                post_url=post_url,
            )
            async with _listening(gateway, host, port):
                yield gateway


@asynccontextmanager
async def _listening(gateway: Gateway, host: str, port: int) -> AsyncIterator[None]:
    runner = web.AppRunner(gateway.app(), access_log=None, shutdown_timeout=_STOPPING)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=_BACKLOG).start()
        gateway.url = f"http://{LOOPBACK}:{runner.addresses[0][1]}"
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await runner.cleanup()
