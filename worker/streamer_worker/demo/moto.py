"""An embedded DynamoDB: moto's server on the loopback interface, one call at a time.

Conditional writes of moto are not atomic across threads: sometimes two of 32 racing claimers
win. One lock therefore serializes all calls. Tests of races must not use it.
"""

from __future__ import annotations

import json
import logging
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, Thread
from typing import Any, Final

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import BaseWSGIServer, make_server

_HOST: Final = "127.0.0.1"
_REGION_OF_SIGNATURE: Final = re.compile(r"(Credential=[^/]*/[^/]*/)[^/]*")
_BATCHED_WRITES: Final = ".BatchExecuteStatement"
_DENIED: Final = json.dumps(
    {
        "__type": "com.amazon.coral.service#AccessDeniedException",
        "Message": "the embedded DynamoDB has no conditional batches",
    }
).encode()

_DENIED_HEADERS: Final = [
    ("Content-Type", "application/x-amz-json-1.0"),
    ("x-amzn-RequestId", "embedded"),  # without one it is not an answer of DynamoDB
]


@contextmanager
def embedded_dynamodb() -> Iterator[str]:
    """Serve an empty DynamoDB on a free port, in a thread, and yield its URL."""
    server = _server(port=0)
    thread = Thread(target=server.serve_forever, name="embedded-dynamodb", daemon=True)
    thread.start()
    try:
        yield f"http://{_HOST}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def serve_dynamodb(listener: socket.socket) -> None:
    """Serve an empty DynamoDB on a socket that listens, until the process ends."""
    _server(port=listener.getsockname()[1], fd=listener.fileno()).serve_forever()


def _server(*, port: int, fd: int | None = None) -> BaseWSGIServer:
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    app = DomainDispatcherApplication(create_backend_app)
    lock = Lock()

    def serialized(environ: Any, start_response: Callable[..., Any]) -> list[bytes]:
        if environ.get("HTTP_X_AMZ_TARGET", "").endswith(_BATCHED_WRITES):
            # moto reports success for statements whose condition failed. Without them, clients
            # send each write alone.
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("400 Bad Request", _DENIED_HEADERS)
            return [_DENIED]
        # moto has tables for each region. Terminals may have different regions in their settings.
        signature = environ.get("HTTP_AUTHORIZATION", "")
        environ["HTTP_AUTHORIZATION"] = _REGION_OF_SIGNATURE.sub(r"\1us-east-1", signature)
        with lock:
            return list(app(environ, start_response))

    return make_server(
        _HOST, port, serialized, threaded=True, request_handler=MotoRequestHandler, fd=fd
    )
