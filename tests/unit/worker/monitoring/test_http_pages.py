"""The paths and methods of the HTTP server, and malformed or silent peers."""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from streamer_store import SystemClock
from streamer_worker.events import Events, SlotsChanged
from streamer_worker.monitoring.accepting import MAX_CONNECTIONS
from streamer_worker.monitoring.health import Health
from streamer_worker.monitoring.http_server import http_server
from streamer_worker.monitoring.metrics import Metrics
from streamer_worker.settings import HttpSettings, Settings

Address = tuple[str, int]
PAGES = ["/metrics", "/healthz", "/readyz"]


@pytest.fixture
def address() -> Iterator[Address]:
    """Yield host and port of a running server."""
    metrics = Metrics({}, clock=SystemClock())
    metrics(SlotsChanged(used=3, total=10))
    health = Health(settings=Settings(), clock=SystemClock())
    settings = HttpSettings(host="127.0.0.1", port=0)
    with http_server(settings, metrics.registry, health, Events()) as url:
        assert url is not None
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        yield parts.hostname, parts.port


def ask(address: Address, path: str, method: str = "GET") -> tuple[HTTPResponse, str]:
    connection = HTTPConnection(*address, timeout=5)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response, response.read().decode()
    finally:
        connection.close()


def silent(address: Address) -> socket.socket:
    return socket.create_connection(address, timeout=5)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("path", ["/health", "/metric", "/metrics/", "/healthz/live", "//", "/%00"])
def test_an_unknown_path_is_404(address: Address, path: str) -> None:
    """A probe with a wrong path fails."""
    response, _ = ask(address, path)
    assert (response.status, response.headers["Connection"]) == (404, "close")


def test_the_index_names_the_pages(address: Address) -> None:
    """`/` lists the paths and their content."""
    response, text = ask(address, "/")
    assert response.status == 200
    assert all(page in text for page in PAGES)


@pytest.mark.parametrize("path", ["/", *PAGES])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_are_405(address: Address, path: str, method: str) -> None:
    """The answer lists the allowed methods."""
    response, _ = ask(address, path, method)
    assert response.status == 405
    assert response.headers["Allow"] == "GET,HEAD"


@pytest.mark.parametrize("path", ["/", *PAGES])
def test_head_is_get_without_the_body(address: Address, path: str) -> None:
    """Status and content type are those of GET."""
    (head, body), (get, _) = ask(address, path, "HEAD"), ask(address, path)
    assert body == ""
    assert head.status == get.status
    assert head.headers["Content-Type"] == get.headers["Content-Type"]


def test_a_query_is_not_part_of_the_path(address: Address) -> None:
    """The `name[]` parameter of Prometheus selects metrics."""
    _, text = ask(address, "/metrics?name[]=streamer_worker_slots")
    assert "streamer_worker_slots" in text
    assert "python_info" not in text
    assert ask(address, "/healthz?verbose=1")[0].status == 200


def test_silent_peers_do_not_block_probes(address: Address) -> None:
    """The oldest connections are closed, so the number of descriptors is bounded."""
    before = descriptors()
    peers = [silent(address) for _ in range(3 * MAX_CONNECTIONS)]
    try:
        assert ask(address, "/healthz")[0].status == 200
        held = descriptors() - before - len(peers)
        assert held <= MAX_CONNECTIONS
        assert peers[0].recv(1) == b""
    finally:
        for peer in peers:
            peer.close()


def test_peers_that_send_half_a_request_are_closed_too(address: Address) -> None:
    """A peer that never ends its headers is treated as a silent one."""
    peers = [silent(address) for _ in range(2 * MAX_CONNECTIONS)]
    try:
        for peer in peers[MAX_CONNECTIONS:]:
            peer.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")
        assert ask(address, "/readyz")[0].status == 503
        assert peers[MAX_CONNECTIONS].recv(1) == b""
    finally:
        for peer in peers:
            peer.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost",
        b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /" + b"x" * 100_000,
        b"\r\n\r\n\r\n",
        b"",
    ],
)
def test_an_unruly_peer_leaves_no_traceback(
    address: Address,
    sent: bytes,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A reset, a port scanner, TLS on this port: nothing on stderr, no warning in the log."""
    for _ in range(5):
        with silent(address) as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.sendall(sent)
    assert ask(address, "/healthz")[0].status == 200
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
