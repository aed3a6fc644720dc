"""/metrics, /healthz and /readyz, served from a thread of their own, so that a busy loop can
still be scraped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from prometheus_client import start_http_server

from streamer_worker.errors import StartError
from streamer_worker.health import Health
from streamer_worker.settings import HttpSettings

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_WAY_OUT = "STREAMER_HTTP_HOST and STREAMER_HTTP_PORT choose another, port 0 takes a free one"


@contextmanager
def http_server(
    settings: HttpSettings, registry: CollectorRegistry, health: Health
) -> Iterator[str | None]:
    """Serve the pages and give the URL of /metrics, or None when they are switched off.

    Raises StartError when the address cannot be listened on.
    """
    if not settings.enabled:
        yield None
        return
    try:
        server, thread = start_http_server(settings.port, settings.host, registry)
    except (OSError, ValueError) as error:  # ValueError: the host is no name at all
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise StartError(
            "/metrics cannot be served:",
            [f"{settings.host}:{settings.port}: {reason}; {_WAY_OUT}"],
        ) from error
    server.set_app(_with_health(server.get_app(), health))
    try:
        host = "127.0.0.1" if settings.host in {"0.0.0.0", "::", ""} else settings.host  # noqa: S104
        host = f"[{host}]" if ":" in host else host
        yield f"http://{host}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _with_health(metrics: Any, health: Health) -> Callable[..., Iterable[bytes]]:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/healthz":
                return _answer(start_response, "alive", health.why_not_alive())
            case "/readyz":
                return _answer(start_response, "ready", health.why_not_ready())
        found: Iterable[bytes] = metrics(environ, start_response)
        return found

    return app


def _answer(start_response: Any, name: str, faults: list[str]) -> list[bytes]:
    status = HTTPStatus.SERVICE_UNAVAILABLE if faults else HTTPStatus.OK
    body = json.dumps({name: not faults, "reasons": faults}).encode() + b"\n"
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response(f"{status.value} {status.phrase}", headers)
    return [body]
