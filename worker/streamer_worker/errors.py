"""Errors that stop a worker from starting, with texts for the operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class StartError(Exception):
    """The worker cannot start. `headline` says which part failed, and `faults` has one line for
    each fault.
    """

    def __init__(self, headline: str, faults: list[str]) -> None:
        super().__init__("\n  ".join([headline, *faults]))
        self.headline = headline
        self.faults = faults


def start_error(errors: Sequence[StartError]) -> StartError:
    """Return the only one of these errors, or one with the faults of all."""
    if len(errors) == 1:
        return errors[0]
    return StartError("the worker cannot start:", [fault for one in errors for fault in one.faults])


class SettingsError(StartError):
    """Settings are invalid or unknown."""


class HandlerLoadError(StartError):
    """Plugins cannot be imported, are no handlers, or claim the same action.

    `loaded`: the handlers that could be imported, by action.
    """

    def __init__(
        self, headline: str, faults: list[str], *, loaded: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(headline, faults)
        self.loaded = loaded or {}


class ScheduleError(StartError):
    """Schedules of handlers or of the settings are invalid."""


class LifespanError(StartError):
    """The lifespan of a handler group cannot be entered, or has failed since."""


class TablesError(StartError):
    """A table is missing, or is not as the worker needs it."""
