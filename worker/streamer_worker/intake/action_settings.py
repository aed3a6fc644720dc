"""Gives handlers the limits that the settings have for their actions."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from streamer_worker.errors import SettingsError
from streamer_worker.handlers.definition import Handler
from streamer_worker.handlers.limits import ActionLimits, action_limits
from streamer_worker.handlers.registry import Registry
from streamer_worker.rate_texts import rate_text
from streamer_worker.settings import Settings


def with_action_settings(registry: Registry, settings: Settings) -> Registry:
    """Return the handlers with the limits that the settings set. Raises SettingsError."""
    faults: list[str] = []
    handlers: dict[str, Handler] = dict(registry)
    for action, options in settings.actions.items():
        if action in registry:
            handler = registry[action]
            try:
                limits = action_limits(
                    action, faults, **limits_as_options(handler.limits) | options.given
                )
            except ValueError as error:
                faults.append(f"actions.{action}: {error}")
            else:
                handlers[action] = replace(handler, limits=limits)
    if faults:
        raise SettingsError("the settings are not valid:", faults)
    return handlers


def unused_action_settings(registry: Registry, settings: Settings) -> Mapping[str, str | None]:
    """Return the actions that have settings and no handler, each with the nearest that has one."""
    nearest = {
        action: difflib.get_close_matches(action, list(registry), n=1)
        for action in settings.actions
        if action not in registry
    }
    return {action: found[0] if found else None for action, found in nearest.items()}


def limits_as_options(limits: ActionLimits) -> dict[str, Any]:
    """Return the options of `@handler` that give these limits."""
    rates = {
        "rate_limit": limits.rate_limit,
        "rate_limit_per_tenant": limits.rate_limit_per_tenant,
    }
    return {
        "max_concurrency": limits.max_concurrency,
        "max_concurrency_scope": limits.max_concurrency_scope.value,
    } | {name: None if rate is None else rate_text(rate) for name, rate in rates.items()}
