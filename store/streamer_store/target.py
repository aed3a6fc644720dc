"""Which database stores use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

DEFAULT_PREFIX: Final = "streamer_"
_PASSWORD: Final = re.compile(r"//[^/@]*@")


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
    """The prefix of the names of the four tables."""
    prefix_source: str

    @property
    def is_aws(self) -> bool:
        """Whether AWS decides the endpoint: no setting names one."""
        return self.endpoint_source == "default"


def without_password(url: str) -> str:
    """Return the URL with its user name and password masked."""
    return _PASSWORD.sub("//***@", url)
