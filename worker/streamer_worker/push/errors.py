"""Errors of a post to a connection."""

from __future__ import annotations


class PushError(Exception):
    """A message was not delivered."""


class Gone(PushError):
    """The connection is closed, for good."""


class PushRefused(PushError):
    """The endpoint must not be called."""


class PushFailed(PushError):
    """The post failed, and may succeed later.

    `code` is the reason in one word: an HTTP status, or the name of an exception.
    """

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(message or code)
        self.code = code
