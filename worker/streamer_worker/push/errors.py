"""Why a message did not arrive."""

from __future__ import annotations


class PushError(Exception):
    """A message was not delivered."""


class Gone(PushError):
    """The connection is closed."""


class PushRefused(PushError):
    """We do not call this endpoint."""


class PushFailed(PushError):
    """It may work another time. `code` is a word to count by."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(message or code)
        self.code = code
