"""What stops a worker from starting. Each one's text is for the operator."""

from __future__ import annotations


class StartError(Exception):
    """The worker cannot start. `faults` has a line for each thing that is wrong."""

    def __init__(self, headline: str, faults: list[str]) -> None:
        super().__init__("\n  ".join([headline, *faults]))
        self.headline = headline
        self.faults = faults


class SettingsError(StartError):
    """Settings are wrong or unknown."""


class HandlerLoadError(StartError):
    """Plugins cannot be loaded, or contradict each other."""


class LifespanError(StartError):
    """What a group of handlers shares cannot be opened, or has broken."""


class TablesError(StartError):
    """The tables are not as the worker needs them."""
