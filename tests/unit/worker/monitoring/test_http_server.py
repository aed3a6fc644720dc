"""/metrics, /healthz and /readyz over HTTP."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest

from streamer_store import SystemClock
from streamer_worker.errors import StartError
from streamer_worker.events import (
    Events,
    ProcessEnding,
    SlotsChanged,
    WorkerDraining,
)
from streamer_worker.monitoring.health import Health
from streamer_worker.monitoring.http_server import http_server
from streamer_worker.monitoring.metrics import Metrics
from streamer_worker.settings import HttpSettings, Settings
from unit.worker.exposed import started


@pytest.fixture
def metrics() -> Metrics:
    metrics = Metrics({}, clock=SystemClock())
    metrics(SlotsChanged(used=3, total=10))
    return metrics


def healthy() -> Health:
    return Health(settings=Settings(), clock=SystemClock())


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def page(url: str) -> str:
    with urlopen(url, timeout=5) as answer:  # noqa: S310  our own server
        assert answer.status == 200
        return str(answer.read().decode())


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@contextmanager
def serving(
    metrics: Metrics, health: Health | None = None, *, host: str = "127.0.0.1", port: int = 0
) -> Iterator[str]:
    settings = HttpSettings(host=host, port=port)
    with http_server(settings, metrics.registry, health or healthy(), Events()) as url:
        assert url is not None
        yield url


ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this host has no IPv6")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "0.0.0.0",  # noqa: S104  what is tested
        "localhost",
        pytest.param("::1", marks=ipv6),
        pytest.param("::", marks=ipv6),
    ],
)
def test_the_url_of_the_page_works(host: str, metrics: Metrics) -> None:
    """Port 0 uses any free port. The URL works for IPv6, too."""
    with serving(metrics, host=host) as url:
        assert 'streamer_worker_slots{state="used"} 3.0' in page(url)


def test_each_scrape_shows_the_current_counts(metrics: Metrics) -> None:
    """The page is not cached."""
    with serving(metrics) as url:
        page(url)
        metrics(SlotsChanged(used=4, total=10))
        assert 'streamer_worker_slots{state="used"} 4.0' in page(url)


def test_clients_that_accept_openmetrics_get_it(metrics: Metrics) -> None:
    """Prometheus accepts it. Other clients get the older text format."""
    asked = "application/openmetrics-text; version=1.0.0"
    with serving(metrics) as url:
        request = Request(url, headers={"Accept": asked})  # noqa: S310  our own server
        with urlopen(request, timeout=5) as answer:  # noqa: S310  our own server
            assert answer.headers["Content-Type"].startswith(asked)
            assert answer.read().decode().endswith("# EOF\n")
        assert "# EOF" not in page(url)


@pytest.mark.parametrize("asked", ["text/plain;version=x", "openmetrics;version=", ";;;", "\u00e9"])
def test_an_invalid_accept_header_gets_the_older_text(asked: str, metrics: Metrics) -> None:
    """A scanner gets no error, and writes no traceback to the log."""
    with serving(metrics) as url:
        request = Request(url, headers={"Accept": asked})  # noqa: S310  our own server
        with urlopen(request, timeout=5) as answer:  # noqa: S310  our own server
            assert answer.status == 200


def test_the_port_is_free_after_the_context(metrics: Metrics) -> None:
    """The server can be started again on the same port."""
    with serving(metrics) as url:
        pass
    with pytest.raises(URLError):
        page(url)
    port = int(url.split(":")[2].partition("/")[0])
    with serving(metrics, port=port) as again:
        assert again == url


def test_a_disabled_server_does_not_listen(metrics: Metrics, taken: int) -> None:
    """The port is not opened."""
    settings = HttpSettings(enabled=False, host="127.0.0.1", port=taken)
    with http_server(settings, metrics.registry, healthy(), Events()) as url:
        assert url is None


def test_the_error_for_a_port_in_use_says_what_to_do(metrics: Metrics, taken: int) -> None:
    """It has the address, the reason and the names of the settings."""
    settings = HttpSettings(host="127.0.0.1", port=taken)
    with (
        pytest.raises(StartError) as caught,
        http_server(settings, metrics.registry, healthy(), Events()),
    ):
        pass
    (fault,) = caught.value.faults
    assert f"127.0.0.1:{taken}" in fault
    assert "in use" in fault
    assert "STREAMER_HTTP_PORT" in fault


@pytest.mark.parametrize("host", ["203.0.113.1", "x" * 70 + ".example", "\0"])
def test_an_invalid_host_is_a_start_error(host: str, metrics: Metrics) -> None:
    """The start fails with a message, not with a traceback."""
    settings = HttpSettings(host=host, port=0)
    with (
        pytest.raises(StartError) as caught,
        http_server(settings, metrics.registry, healthy(), Events()),
    ):
        pass
    assert "STREAMER_HTTP_HOST" in str(caught.value)


def asked(url: str, path: str) -> tuple[int, Any]:
    try:
        answer = urlopen(url.replace("/metrics", path), timeout=5)  # noqa: S310  our own server
    except HTTPError as refused:
        answer = refused
    with answer:
        return answer.status, json.loads(answer.read())


def test_health_and_readiness_have_pages(metrics: Metrics) -> None:
    """The pages answer 200 or 503, with the reasons as JSON."""
    health = healthy()
    with serving(metrics, health) as url:
        assert asked(url, "/healthz") == (200, {"alive": True, "reasons": []})
        assert asked(url, "/readyz") == (503, {"ready": False, "reasons": ["not started yet"]})
        health(started(metrics_url=url))
        assert asked(url, "/readyz") == (200, {"ready": True, "reasons": []})
        health(WorkerDraining(worker_id="w", in_flight=1))
        assert asked(url, "/readyz") == (503, {"ready": False, "reasons": ["draining"]})
        assert asked(url, "/healthz")[0] == 200
        health(ProcessEnding(reason="the event loop has been blocked", stacks=""))
        assert asked(url, "/healthz")[0] == 503
