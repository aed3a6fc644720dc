"""/metrics, served from a thread of its own, so that a busy loop can still be scraped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prometheus_client import start_http_server

from streamer_worker.errors import StartError
from streamer_worker.settings import HttpSettings

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_WAY_OUT = "STREAMER_HTTP_HOST and STREAMER_HTTP_PORT choose another, port 0 takes a free one"


@contextmanager
def metrics_server(settings: HttpSettings, registry: CollectorRegistry) -> Iterator[str | None]:
    """Serve the registry and give the page's URL, or None when it is switched off.

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
    try:
        host = "127.0.0.1" if settings.host in {"0.0.0.0", "::", ""} else settings.host  # noqa: S104
        host = f"[{host}]" if ":" in host else host
        yield f"http://{host}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
