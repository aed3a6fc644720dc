"""Limits what the AWS client and the HTTP client log."""

from __future__ import annotations

import logging
from threading import Lock
from typing import Final

from cachetools import TTLCache

from streamer_worker.sanitize import named_message, sanitized, text_of
from streamer_worker.settings import SENSITIVE_LOGGERS

_AWS: Final = frozenset({"aiobotocore", "botocore"})
# Seconds between two lines of the same text, and how many texts are remembered.
_EVERY: Final = 60.0
_TEXTS: Final = 1000


def is_not_sensitive(record: logging.LogRecord) -> bool:
    """Reject what these clients log below WARNING, which contains requests, at any logger level."""
    return record.levelno >= logging.WARNING or not _is_of_client(record.name)


class ClientThrottle:
    """A filter that passes each message of the AWS client once a minute, without its traceback.

    The client logs a traceback at each call while credentials cannot be refreshed. The failure is
    raised, too, and is an event of the worker. Never raises. Any thread.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._logged: TTLCache[tuple[str, str], None] = TTLCache(_TEXTS, _EVERY)

    def __call__(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in _AWS:
            return True
        if record.exc_info and record.exc_info[1] is not None:
            record.error = sanitized(named_message(record.exc_info[1]))
            record.exc_info = record.exc_text = None
        text = record.name, text_of(record.msg)
        with self._lock:
            known = text in self._logged
            if not known:
                self._logged[text] = None
        return not known


def hold_sensitive_loggers(level: int = logging.WARNING) -> None:
    """Make the loggers of these clients drop all records below WARNING, and remove their handlers.

    This holds if a plugin lowers their levels later. Loggers created after this call are not
    included.
    """
    for name in (*SENSITIVE_LOGGERS, *list(logging.root.manager.loggerDict)):
        if _is_of_client(name):
            logger = logging.getLogger(name)
            logger.setLevel(max(logging.WARNING, level))
            logger.handlers, logger.filters = [], [is_not_sensitive]
            logger.propagate = True


def _is_of_client(name: str) -> bool:
    return name.partition(".")[0] in SENSITIVE_LOGGERS
