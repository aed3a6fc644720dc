"""The allow-list of endpoints (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from streamer_worker.push.errors import PushRefused

_SCHEMES: Final = frozenset({"https", "wss"})
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?", re.ASCII)
_PATH: Final = re.compile(r"(/[A-Za-z0-9._~$-]+)*/?", re.ASCII)
_AWS: Final = re.compile(r"[a-z0-9-]+\.execute-api\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?", re.ASCII)


def url_of(endpoint: str, hosts: Iterable[str]) -> str:
    """Return the URL to post to for a connection's endpoint: `https://host/stage`.

    endpoint: a host and a path, with the scheme `wss://`, `https://` or none.
    hosts: allowed host names, with a port where it is not 443. `*` matches one label.

    Raises PushRefused if the host is not allowed, or if the endpoint has more than these parts.
    """
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
    if not _HOST.fullmatch(host) or not any(_matches(host, allowed.lower()) for allowed in hosts):
        raise PushRefused("the host of the endpoint is not in notifier.hosts")
    if not _PATH.fullmatch(parts.path) or ".." in parts.path:
        raise PushRefused("the path of the endpoint has characters that are not allowed")
    return f"https://{host}{parts.path.rstrip('/')}"


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
