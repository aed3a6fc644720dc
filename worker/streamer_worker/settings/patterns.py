"""The patterns that values of settings must match."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_LABEL: Final = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
# 1 to 65535.
_PORT: Final = (
    r"(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})"
)
HOST: Final = rf"^(http://{_LABEL}(\.{_LABEL})*|(\*|{_LABEL})(\.(\*|{_LABEL}))*)(:{_PORT})?$"
PUSH_ENDPOINT: Final = (
    rf"^(https?|wss?)://{_LABEL}(\.{_LABEL})*(:{_PORT})?(/[A-Za-z0-9_~$-][A-Za-z0-9._~$-]*)*/?$"
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
