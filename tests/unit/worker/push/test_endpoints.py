"""Which endpoints are allowed."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from streamer_worker.push.endpoints import AllowedEndpoints, region_of
from streamer_worker.push.errors import PushRefused
from streamer_worker.settings import NotifierSettings

HOSTS = NotifierSettings().allowed_hosts
API = "abc123.execute-api.eu-west-1.amazonaws.com"


def url_of(endpoint: str, hosts: Iterable[str]) -> str:
    return AllowedEndpoints(hosts).url_of(endpoint)


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        (f"wss://{API}/prod", f"https://{API}/prod"),
        (f"https://{API}/prod", f"https://{API}/prod"),
        (f"{API}/prod", f"https://{API}/prod"),
        (f"wss://{API}/prod/", f"https://{API}/prod"),
        (f"WSS://{API.upper()}/Prod", f"https://{API}/Prod"),
        (f"wss://{API}", f"https://{API}"),
        (f"wss://{API}.cn/prod", f"https://{API}.cn/prod"),
        (f"wss://{API}/$default", f"https://{API}/$default"),
    ],
)
def test_the_hosts_of_api_gateway_are_allowed(endpoint: str, url: str) -> None:
    """The URL is https for every allowed scheme."""
    assert url_of(endpoint, HOSTS) == url


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "wss://",
        "wss://evil.example/prod",
        f"ws://{API}/prod",
        f"http://{API}/prod",
        f"ftp://{API}/prod",
        f"wss://{API}:8443/prod",
        f"wss://{API}:443/prod",
        f"wss://{API}./prod",
        f"wss://{API}.evil.example/prod",
        f"wss://evil.example/{API}",
        f"wss://user@{API}/prod",
        f"wss://{API}@evil.example/prod",
        f"wss://evil.example#{API}/prod",
        f"wss://evil.example?{API}/prod",
        f"wss://evil.example\\@{API}/prod",
        f"wss://{API}\\.evil.example/prod",
        f"wss://{API}/prod?x=1",
        f"wss://{API}/prod#x",
        f"wss://{API}/../admin",
        f"wss://{API}/prod//x",
        f"wss://{API}/pr od",
        f"wss://{API}/pr%6fd",
        f"wss://{API}\n/prod",
        f" wss://{API}/prod",
        "wss://a.b.execute-api.eu-west-1.amazonaws.com/prod",
        "wss://.execute-api.eu-west-1.amazonaws.com/prod",
        "wss://a.execute-api..amazonaws.com/prod",
        "wss://a.execute-api.evil.example.amazonaws.com/prod",
        "wss://aexecute-api.eu-west-1.amazonaws.com/prod",
        "wss://169.254.169.254/latest/meta-data",
        "wss://[::1]/prod",
        "wss://[::1/prod",
        "wss://127.1/prod",
        "wss://localhost/prod",
        "wss://ⓐ.execute-api.eu-west-1.amazonaws.com/prod",
        "https:///prod",
        "//evil.example/prod",
        "x" * 10_000,
    ],
)
def test_other_endpoints_are_refused(endpoint: str) -> None:
    """No spelling of a host or path passes the allow-list."""
    with pytest.raises(PushRefused):
        url_of(endpoint, HOSTS)


def test_custom_domains_are_allowed_by_settings() -> None:
    """A port is part of the name, unless it is 443. A star matches one label."""
    hosts = ["ws.example.com", "*.ws.example.com:8443", "localhost:5000"]
    assert url_of("wss://ws.example.com/v1", hosts) == "https://ws.example.com/v1"
    assert url_of("wss://a.ws.example.com:8443", hosts) == "https://a.ws.example.com:8443"
    assert url_of("wss://localhost:5000/x", hosts) == "https://localhost:5000/x"
    for refused in ("wss://ws.example.com:8443", "wss://a.ws.example.com", "wss://localhost/x"):
        with pytest.raises(PushRefused):
            url_of(refused, hosts)


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://localhost:8797", "http://localhost:8797"),
        ("ws://localhost:8797/prod/", "http://localhost:8797/prod"),
        ("WS://LOCALHOST:8797/Prod", "http://localhost:8797/Prod"),
        (f"wss://{API}/prod", f"https://{API}/prod"),
    ],
)
def test_a_host_with_its_scheme_is_allowed_without_tls(endpoint: str, url: str) -> None:
    """For a gateway on one's own machine. The other hosts stay allowed."""
    settings = NotifierSettings(more_hosts=("http://localhost:8797",))
    assert url_of(endpoint, settings.allowed_hosts) == url


@pytest.mark.parametrize(
    "endpoint",
    [
        f"http://{API}/prod",
        "wss://localhost:8797/prod",
        "localhost:8797/prod",
        "http://localhost/prod",
        "http://localhost:8797@evil.example/prod",
        "http://evil.example#localhost:8797",
        "http://a.localhost:8797/",
        "http://127.0.0.1:8797/",
        "ws://localhost:8797/../x",
    ],
)
def test_a_scheme_is_allowed_for_its_host_only(endpoint: str) -> None:
    """Neither is the host allowed with TLS, nor are other hosts without."""
    with pytest.raises(PushRefused):
        url_of(endpoint, (*HOSTS, "http://localhost:8797"))


def test_a_refusal_says_what_is_allowed() -> None:
    """And where to add the host. A long host is cut."""
    with pytest.raises(PushRefused) as refused:
        url_of("ws://localhost:8797/prod", ["ws.example.com"])
    assert str(refused.value) == (
        "http://localhost:8797 is not allowed:"
        " notifier.hosts and notifier.more_hosts have ws.example.com"
    )
    with pytest.raises(PushRefused) as refused:
        url_of("x" * 10_000, [])
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("fixed", "url"),
    [
        (f"https://{API}/prod/", f"https://{API}/prod"),
        (f"wss://{API}/prod", f"https://{API}/prod"),
        ("ws://localhost:8797", "http://localhost:8797"),
    ],
)
@pytest.mark.parametrize("endpoint", ["wss://example.com/ws", "", "http://evil.example"])
def test_everything_is_posted_to_a_given_endpoint(endpoint: str, fixed: str, url: str) -> None:
    """As the Go implementation's WEBSOCKET_ENDPOINT: what a connection has is not used."""
    assert AllowedEndpoints((), fixed).url_of(endpoint) == url


def test_the_region_is_in_the_name() -> None:
    """Requests are signed for the region in the host's name. A custom domain has none."""
    assert region_of(f"https://{API}/prod") == "eu-west-1"
    assert region_of(f"https://{API}.cn") == "eu-west-1"
    assert region_of("https://ws.example.com/v1") is None
