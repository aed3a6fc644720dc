"""Errors that stop a worker from starting, with texts for the operator."""

from __future__ import annotations


class StartError(Exception):
    """The worker cannot start. `headline` says which part failed, and `faults` has one line for
    each fault.
    """

    def __init__(self, headline: str, faults: list[str]) -> None:
        super().__init__("\n  ".join([headline, *faults]))
        self.headline = headline
        self.faults = faults


class SettingsError(StartError):
    """Settings are invalid or unknown."""


class HandlerLoadError(StartError):
    """Plugins cannot be imported, are no handlers, or claim the same action."""


class ScheduleError(StartError):
    """Schedules of handlers or of the settings are invalid."""


class LifespanError(StartError):
    """The lifespan of a handler group cannot be entered, or has failed since."""


class TablesError(StartError):
    """A table is missing, or is not as the worker needs it."""
