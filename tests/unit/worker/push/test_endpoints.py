"""Which endpoints are allowed."""

from __future__ import annotations

import pytest

from streamer_worker.push.endpoints import region_of, url_of
from streamer_worker.push.errors import PushRefused
from streamer_worker.settings import NotifierSettings

HOSTS = NotifierSettings().hosts
API = "abc123.execute-api.eu-west-1.amazonaws.com"


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


def test_the_region_is_in_the_name() -> None:
    """Requests are signed for the region in the host's name. A custom domain has none."""
    assert region_of(f"https://{API}/prod") == "eu-west-1"
    assert region_of(f"https://{API}.cn") == "eu-west-1"
    assert region_of("https://ws.example.com/v1") is None
