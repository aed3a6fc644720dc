"""The allow-list of endpoints (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from streamer_worker.push.errors import PushRefused

_PLAIN: Final = "http://"
# The scheme of the management API by that of the endpoint.
_SCHEMES: Final = {"https": "https", "wss": "https", "http": "http", "ws": "http"}
_HOST_CHARS: Final = 100
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?", re.ASCII)
_PATH: Final = re.compile(r"(/[A-Za-z0-9._~$-]+)*/?", re.ASCII)
_AWS: Final = re.compile(r"[a-z0-9-]+\.execute-api\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?", re.ASCII)


class AllowedEndpoints:
    """Which URLs may be posted to.

    hosts: host names, with a port where it is not that of the scheme. `*` matches one label. A name
        with `http://` before it is allowed without TLS, and only so.
    endpoint: if given, everything is posted there, whatever endpoint a connection has.
    """

    def __init__(self, hosts: Iterable[str], endpoint: str | None = None) -> None:
        self._hosts = tuple(hosts)
        # The scheme of a WebSocket becomes that of the management API.
        self._fixed = None if endpoint is None else _with_scheme_of_api(endpoint)
        self._secure = [host.lower() for host in self._hosts if "://" not in host]
        self._plain = [host.lower().removeprefix(_PLAIN) for host in self._hosts if "://" in host]

    def url_of(self, endpoint: str) -> str:
        """Return the URL to post to for a connection's endpoint: `https://host/stage`.

        endpoint: a host and a path, with the scheme `wss`, `https` or none, or with `ws` or `http`
            for a host that is allowed so.

        Raises PushRefused if the host is not allowed, or if the endpoint has more than these parts.
        """
        if self._fixed is not None:
            return self._fixed
        text = endpoint if "://" in endpoint else f"https://{endpoint}"
        try:
            parts = urlsplit(text)
        except ValueError as error:
            raise PushRefused(f"the endpoint is not a URL: {error}") from error
        host = parts.netloc.lower()
        # Nothing may be left out of these parts: libraries differ in how they parse the rest.
        if text.lower() != f"{parts.scheme}://{host}{parts.path}".lower():
            raise PushRefused("the endpoint has more than a host and a path")
        if parts.scheme not in _SCHEMES:
            raise PushRefused(f"the endpoint has the scheme {parts.scheme!r}, not https or wss")
        scheme = _SCHEMES[parts.scheme]
        allowed = self._secure if scheme == "https" else self._plain
        if not _HOST.fullmatch(host) or not any(_matches(host, pattern) for pattern in allowed):
            raise PushRefused(self._not_allowed(scheme, host))
        if not _PATH.fullmatch(parts.path) or ".." in parts.path:
            raise PushRefused("the path of the endpoint has characters that are not allowed")
        return f"{scheme}://{host}{parts.path.rstrip('/')}"

    def _not_allowed(self, scheme: str, host: str) -> str:
        return (
            f"{scheme}://{host[:_HOST_CHARS]} is not allowed: notifier.hosts and"
            f" notifier.more_hosts have {', '.join(self._hosts) or 'none'}"
        )


def region_of(url: str) -> str | None:
    """Return the AWS region in the host's name, None for a custom domain."""
    match = _AWS.fullmatch(urlsplit(url).netloc)
    return match and match.group(1)


def _matches(host: str, pattern: str) -> bool:
    labels, patterns = host.split("."), pattern.split(".")
    if len(labels) != len(patterns):
        return False
    return all(
        label == wanted or (wanted == "*" and label.isascii() and _is_label(label))
        for label, wanted in zip(labels, patterns, strict=True)
    )


def _is_label(text: str) -> bool:
    return bool(text) and ":" not in text


def _with_scheme_of_api(endpoint: str) -> str:
    scheme, separator, rest = endpoint.partition("://")
    return f"{_SCHEMES[scheme.lower()]}{separator}{rest.rstrip('/')}"
