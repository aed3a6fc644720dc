"""Which endpoints may be called (pure)."""

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
    """Return where to post to the connections of an endpoint: `https://host/stage`.

    `wss://`, `https://` and no scheme are the same. `hosts` are names, with a port where it is
    not 443; `*` stands for one label. Raises PushRefused for all that is not on the list, or is
    not plainly a host and a path.
    """
    text = endpoint if "://" in endpoint else f"https://{endpoint}"
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise PushRefused(f"its endpoint is no URL: {error}") from error
    host = parts.netloc.lower()
    # What is parsed must be all there is: a browser and a library may read oddities otherwise.
    if text.lower() != f"{parts.scheme}://{host}{parts.path}".lower():
        raise PushRefused("its endpoint is more than a host and a path")
    if parts.scheme not in _SCHEMES:
        raise PushRefused(f"its endpoint has the scheme {parts.scheme!r}")
    if not _HOST.fullmatch(host) or not any(_fits(host, each.lower()) for each in hosts):
        raise PushRefused("its host is not on the list of those that may be called")
    if not _PATH.fullmatch(parts.path) or ".." in parts.path:
        raise PushRefused("its endpoint has an odd path")
    return f"https://{host}{parts.path.rstrip('/')}"


def region_of(url: str) -> str | None:
    """Return the AWS region that the host's name has; None for a domain of one's own."""
    found = _AWS.fullmatch(urlsplit(url).netloc)
    return found and found.group(1)


def _fits(host: str, pattern: str) -> bool:
    labels, wanted = host.split("."), pattern.split(".")
    if len(labels) != len(wanted):
        return False
    return all(
        label == want or (want == "*" and label.isascii() and _is_label(label))
        for label, want in zip(labels, wanted, strict=True)
    )


def _is_label(text: str) -> bool:
    return bool(text) and ":" not in text
