"""The log of a test."""

from __future__ import annotations

import io
import json
from typing import Any

import structlog

from streamer_worker.events import Event
from streamer_worker.monitoring.logs import LogListener, configure_logging
from streamer_worker.settings import LogSettings


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Output:
    """Configures the log, and has the lines that are written after that.

    terminal: the stream claims to be a terminal.
    settings: fields of LogSettings.
    """

    def __init__(self, *, terminal: bool = False, **settings: Any) -> None:
        self.stream = Terminal() if terminal else io.StringIO()
        self.worker_log = configure_logging(LogSettings(**settings), stream=self.stream)
        self.log = structlog.get_logger("my.plugin")

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    def log_event(self, event: Event) -> list[dict[str, Any]]:
        LogListener(self.worker_log)(event)
        return self.lines
