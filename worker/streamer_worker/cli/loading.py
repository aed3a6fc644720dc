"""Loads the handlers of a command that has the options --handlers and --app-dir."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from streamer_worker.errors import (
    HandlerLoadError,
    ScheduleError,
    SettingsError,
    StartError,
    start_error,
)
from streamer_worker.handlers import registry
from streamer_worker.handlers.references import ReferenceInvalid, add_to_path
from streamer_worker.intake.action_settings import with_action_settings
from streamer_worker.schedules.resolving import resolve_schedules
from streamer_worker.settings import Settings, load_settings


def find_handlers(references: Sequence[str] | None, app_dir: Path) -> registry.Registry:
    """Return the installed handlers, and those that --handlers names.

    With references, `app_dir` becomes the first entry of sys.path. Raises HandlerLoadError.
    """
    if not references:
        return registry.load_handlers()
    try:
        add_to_path(app_dir)
    except ReferenceInvalid as error:
        raise HandlerLoadError("handlers cannot be loaded:", [str(error)]) from error
    return registry.load_handlers(references=references)


def find_checked_handlers(
    references: Sequence[str] | None, app_dir: Path, settings: Settings | None
) -> registry.Registry:
    """Return what find_handlers does, after a check with the settings of actions and schedules.

    settings: None if they are not valid. Raises StartError with every fault.
    """
    errors: list[StartError] = []
    schedules = {} if settings is None else settings.schedules
    try:
        handlers = find_handlers(references, app_dir)
    except HandlerLoadError as error:
        errors.append(error)
        # A schedule in the settings may be that of a handler that cannot be loaded.
        handlers, schedules = error.loaded, {}
    try:
        if settings is not None:
            with_action_settings(handlers, settings)
    except SettingsError as error:
        errors.append(error)
    try:
        resolve_schedules(schedules, handlers)
    except ScheduleError as error:
        errors.append(error)
    if errors:
        raise start_error(errors)
    return handlers


def load_settings_of_worker(
    config: Path | None, references: Sequence[str] | None, app_dir: Path
) -> Settings:
    """Return the settings. Raises StartError with their faults and those of the handlers."""
    try:
        return load_settings(config)
    except SettingsError as error:
        errors: list[StartError] = [error]
    try:
        find_checked_handlers(references, app_dir, None)
    except StartError as error:
        errors.append(error)
    raise start_error(errors)
