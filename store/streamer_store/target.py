"""Which database stores use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from streamer_store.table_names import TableNames

# Where a request is signed for the wrong region, AWS refuses it.
_AWS_DOMAINS: Final = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
_WORD: Final = re.compile(r"[^\s'\"]+")
_SCHEME: Final = re.compile(r"\w+:/{1,2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The database that stores use, and where each part of its address came from.

    A source is one of these:

    - `argument`: an argument of `open_stores`.
    - The name of an environment variable, such as AWS_ENDPOINT_URL_DYNAMODB.
    - `profile NAME`: a profile of the AWS configuration file.
    - `default`: nothing names one. For an endpoint, it is AWS's own endpoint of the region.
    - `client`: the client that was handed to `open_stores`.
    """

    endpoint: str
    """The URL that is called. A user name and a password in it are masked."""
    endpoint_source: str
    region: str
    """The AWS region. Emulators ignore it."""
    region_source: str
    prefix: str
    """The prefix of the names of the tables that have no name of their own."""
    prefix_source: str
    tables: TableNames
    """The full names of the four tables."""
    table_sources: Mapping[str, str] = field(hash=False)
    """The source of the name of each table, such as `{"requests": "argument", ...}`. Without a name
    of its own, it is that of the prefix."""

    @property
    def is_aws(self) -> bool:
        """Whether AWS decides the endpoint: no setting names one."""
        return self.endpoint_source == "default"


def is_aws_endpoint(url: str) -> bool:
    """Return whether the host of the URL is one of AWS's."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:  # botocore refuses it later
        return False
    return host.endswith(_AWS_DOMAINS)


def without_password(url: str) -> str:
    """Return the URL, or a text with URLs, with user names, passwords and queries masked."""
    return _WORD.sub(lambda found: _masked(found[0]), url)


def _masked(word: str) -> str:
    # All before the last "@", as a password may contain any character, and the scheme be forgotten.
    user, at, rest = word.rpartition("@")
    if at:
        scheme = _SCHEME.match(user)
        word = f"{scheme[0] if scheme else ''}***@{rest}"
    before, separator, rest = word.partition("://")
    place, query, _ = rest.partition("?")
    return f"{before}{separator}{place}?***" if query else word
