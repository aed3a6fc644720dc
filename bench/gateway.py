"""A server that plays API Gateway, and connections to it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import trustme

from integration import apigateway
from streamer_store.codec import connection_item
from support import connection

NUMBER: Final = 100
IDS: Final = tuple(f"ok-{number}" for number in range(NUMBER))


class Gateway:
    """The server, as a worker needs to know it."""

    def __init__(self, port: int, authority: Path) -> None:
        self._host = f"localhost:{port}"
        self.settings: Mapping[str, str] = {
            "push": "apigateway",
            "notifier_hosts": self._host,
            "region": "us-east-1",
        }
        self.environment: Mapping[str, str] = {"AWS_CA_BUNDLE": str(authority)}

    def connections(self) -> Iterator[Mapping[str, Any]]:
        """Yield the items of connections that accept each message."""
        now = datetime.now(UTC)
        endpoint = f"wss://{self._host}/prod"
        for connection_id in IDS:
            yield connection_item(
                connection(connection_id, endpoint=endpoint, connected_at=now, last_ping=now)
            )


@contextmanager
def gateway(folder: Path) -> Iterator[Gateway]:
    """Start a server with a certificate of its own."""
    authority, certificate, log = (folder / f"gateway.{name}" for name in ("ca", "pem", "log"))
    issuer = trustme.CA()
    issuer.cert_pem.write_to_path(str(authority))
    issuer.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    with subprocess.Popen(  # noqa: S603
        [sys.executable, apigateway.__file__, str(certificate), str(log)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None  # noqa: S101
            yield Gateway(int(process.stdout.readline()), authority)
        finally:
            process.kill()
