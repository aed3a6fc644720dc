"""The patterns that values of settings must match."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

HOST: Final = (
    r"^(http://[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*"
    r"|(\*|[A-Za-z0-9-]+)(\.(\*|[A-Za-z0-9-]+))*)(:[0-9]{1,5})?$"
)
PUSH_ENDPOINT: Final = (
    r"^(https?|wss?)://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?"
    r"(/[A-Za-z0-9._~$-]+)*/?$"
)
TABLE_PREFIX: Final = r"^[A-Za-z0-9_.-]*$"
TABLE_NAME: Final = r"^[A-Za-z0-9_.-]{3,255}$"
URL: Final = r"^https?://"
PATTERN_TEXTS: Final[Mapping[str, str]] = {
    HOST: "must be a host such as ws.example.com, *.example.com:8443 or http://localhost:8797",
    PUSH_ENDPOINT: "must be a host and a stage, such as"
    " https://abc123.execute-api.eu-west-1.amazonaws.com/prod",
    TABLE_NAME: "must be 3 to 255 characters of A-Z, a-z, 0-9, _, . and -",
    TABLE_PREFIX: "must have only A-Z, a-z, 0-9, _, . and -",
    URL: "must begin with http:// or https://",
}
"""What a value must be that the pattern refuses, for people."""
