"""Serves /metrics, /healthz and /readyz on a thread of its own, so that a worker can be scraped and
probed while its event loop is blocked.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import anyio
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from anyio.abc import TaskStatus
from anyio.from_thread import start_blocking_portal
from prometheus_client.exposition import choose_encoder

from streamer_worker.errors import StartError
from streamer_worker.events import Events
from streamer_worker.monitoring.accepting import Acceptor
from streamer_worker.monitoring.health import Health
from streamer_worker.settings import HttpSettings

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_REMEDY: Final = (
    "choose another with STREAMER_HTTP_HOST and STREAMER_HTTP_PORT (port 0: any free port)"
)
_BACKLOG: Final = 128
# Seconds for open connections at the end.
_SHUTDOWN: Final = 1.0
_PAGES: Final = """\
streamer-worker
/metrics  metrics for Prometheus
/healthz  200 while the worker is alive, 503 when it needs a restart
/readyz   200 while polls and heartbeats succeed, otherwise 503
"""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextmanager
def http_server(
    settings: HttpSettings, registry: CollectorRegistry, health: Health, events: Events
) -> Iterator[str | None]:
    """Serve the pages while the context is open. Yield the URL of /metrics, None if switched off.

    Raises StartError if the worker cannot listen on the address.
    """
    if not settings.enabled:
        yield None
        return
    try:
        listening = _listen(settings.host, settings.port)
    except (OSError, ValueError) as error:  # ValueError: the host is not a valid name
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise StartError(
            "the HTTP server cannot start:",
            [f"{settings.host}:{settings.port}: {reason}; {_REMEDY}"],
        ) from error
    with listening, start_blocking_portal("asyncio", name="http") as portal:
        serve = partial(_serve, listening, _app(registry, health), events)
        _, stop = portal.start_task(serve)
        try:
            yield _url(settings.host, listening)
        finally:
            portal.call(stop.set)


def _listen(host: str, port: int) -> socket.socket:
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = addresses[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setblocking(False)  # noqa: FBT003  its own signature
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening


def _url(host: str, listening: socket.socket) -> str:
    """Return a URL of /metrics that works on this host."""
    host = "127.0.0.1" if host in {"0.0.0.0", "::", ""} else host  # noqa: S104
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{listening.getsockname()[1]}/metrics"


async def _serve(
    listening: socket.socket,
    app: web.Application,
    events: Events,
    *,
    task_status: TaskStatus[anyio.Event],
) -> None:
    """Serve until the event is set that `task_status.started` passes to the caller."""
    logger = logging.getLogger("streamer_worker.monitoring.http_server")
    logger.addFilter(_is_not_a_peers_error)
    runner = web.AppRunner(app, access_log=None, logger=logger, shutdown_timeout=_SHUTDOWN)
    await runner.setup()
    assert runner.server is not None  # noqa: S101  it is there after setup()
    acceptor = Acceptor(listening, runner.server, events=events)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(acceptor.accept)
            stop = anyio.Event()
            task_status.started(stop)
            await stop.wait()
            tasks.cancel_scope.cancel()
    finally:
        acceptor.close()
        await runner.cleanup()


def _is_not_a_peers_error(record: logging.LogRecord) -> bool:
    """Reject aiohttp's records of malformed requests: a port scanner must not fill the log."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def _app(registry: CollectorRegistry, health: Health) -> web.Application:
    app = web.Application(middlewares=[_close_after_response])
    app.router.add_get("/", _index)
    app.router.add_get("/metrics", partial(_metrics, registry))
    app.router.add_get("/healthz", partial(_health, "alive", health.why_not_alive))
    app.router.add_get("/readyz", partial(_health, "ready", health.why_not_ready))
    return app


@web.middleware
async def _close_after_response(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Close the connection after one request: an idle one would count against the limit."""
    try:
        response = await handler(request)
    except web.HTTPException as error:  # 404 and 405
        error.force_close()
        raise
    response.force_close()
    return response


async def _index(_request: web.Request) -> web.Response:
    return web.Response(text=_PAGES)


async def _metrics(registry: CollectorRegistry, request: web.Request) -> web.Response:
    try:
        encode, content_type = choose_encoder(request.headers.get(hdrs.ACCEPT, ""))
    except (TypeError, ValueError):  # the client asks for a version that is not a number
        encode, content_type = choose_encoder("")
    names = request.query.getall("name[]", [])
    page = encode(registry.restricted_registry(names) if names else registry)
    response = web.Response(body=page, headers={hdrs.CONTENT_TYPE: content_type})
    response.enable_compression()
    return response


async def _health(
    name: str, why_not: Callable[[], list[str]], _request: web.Request
) -> web.Response:
    reasons = why_not()
    status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
    return web.json_response({name: not reasons, "reasons": reasons}, status=status)
