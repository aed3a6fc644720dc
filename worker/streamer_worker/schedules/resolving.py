"""Finds the schedules of handlers and settings, and checks them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any, Final

from streamer_store import Priority, ValidationError
from streamer_store.schedule_row import require_schedule_name
from streamer_store.validation import LARGEST_COUNT
from streamer_store.values import encode_document, value_size
from streamer_worker.cron import CronExpression, ExpressionInvalid, parse_timezone
from streamer_worker.errors import ScheduleError
from streamer_worker.handlers.registry import Registry
from streamer_worker.handlers.schedules import Schedule
from streamer_worker.handlers.schema import PayloadInvalid
from streamer_worker.schedules.definition import Definition, Definitions
from streamer_worker.settings import ScheduleSettings
from streamer_worker.settings.schedules import LONGEST_CATCH_UP

_LONGEST_CATCH_UP: Final = timedelta(seconds=LONGEST_CATCH_UP)
_MAX_PAYLOAD_BYTES: Final = 300_000
_MISSED: Final = ("last", "all")


@dataclass(frozen=True, slots=True)
class _Found:
    """A schedule before it is checked. `place`: where it is defined."""

    place: str
    action: str
    schedule: Schedule


def resolve_schedules(settings: Mapping[str, ScheduleSettings], registry: Registry) -> Definitions:
    """Return the schedules of the handlers and the settings, by name.

    An entry of the settings replaces what it names of a handler's schedule with its name. Raises
    ScheduleError with every fault: its place, and the nearest valid value where there is one.
    """
    faults: list[str] = []
    found: dict[str, _Found] = {}
    for action in sorted(registry):
        handler = registry[action]
        name = getattr(handler.function, "__qualname__", handler.function)
        for schedule in handler.schedules:
            place = f"handler {name}: schedule {schedule.name!r}"
            if schedule.name in found:
                other = found[schedule.name].place
                faults.append(
                    f"{place}: the name is taken by {other}; schedules need different ones"
                )
            found[schedule.name] = _Found(place, action, schedule)
    for name, entry in settings.items():
        overridden = _overridden(name, entry, found.get(name))
        if overridden is None:
            faults.append(f"schedules.{name}: cron is missing, and no handler has this schedule")
        else:
            found[name] = overridden
    definitions = {}
    for name, one in found.items():
        own_faults = list(_faults(one, registry))
        faults += [f"{one.place}: {fault}" for fault in own_faults]
        if not own_faults:
            definitions[name] = _definition(one)
    if faults:
        raise ScheduleError("the schedules are not valid:", faults)
    return definitions


def _overridden(name: str, entry: ScheduleSettings, handlers_own: _Found | None) -> _Found | None:
    """Return the schedule of a settings entry, or None if it has no expression."""
    if handlers_own is None and entry.cron is None:
        return None
    base = Schedule(name, cron="") if handlers_own is None else handlers_own.schedule
    changed: dict[str, Any] = {
        option.name: value
        for option in fields(Schedule)
        if (value := getattr(entry, option.name, None)) is not None
    }
    if entry.catch_up is not None:
        changed["catch_up"] = timedelta(seconds=entry.catch_up)
    action = entry.action or (name if handlers_own is None else handlers_own.action)
    return _Found(f"schedules.{name}", action, replace(base, **changed))


def _faults(found: _Found, registry: Registry) -> Iterator[str]:
    schedule = found.schedule
    try:
        require_schedule_name(schedule.name)
    except ValidationError as error:
        yield error.message
    yield from _expression_faults(schedule)
    if found.action not in registry:
        yield f"no handler of action {found.action!r}{_nearest(found.action, registry)}"
    yield from _option_faults(schedule)
    yield from _payload_faults(found, registry)


def _expression_faults(schedule: Schedule) -> Iterator[str]:
    for option in ("cron", "timezone"):
        if not isinstance(getattr(schedule, option), str):
            yield f"{option} must be text, not {getattr(schedule, option)!r:.100}"
            return
    for timezone in dict.fromkeys([schedule.timezone, "UTC"]):
        try:  # the expression has its own fault beside that of the zone
            parse_timezone(timezone)
            CronExpression(schedule.cron, timezone)
        except ExpressionInvalid as error:
            yield str(error)
            if str(error).startswith("cron"):
                return
        else:
            return


def _option_faults(schedule: Schedule) -> Iterator[str]:
    catch_up: object = schedule.catch_up
    if not isinstance(catch_up, timedelta) or not timedelta() <= catch_up <= _LONGEST_CATCH_UP:
        shown = str(catch_up) if isinstance(catch_up, timedelta) else repr(catch_up)
        yield f"catch_up must be a timedelta from 0 to a day, not {shown:.100}"
    if schedule.missed not in _MISSED:
        yield f"missed must be 'last' or 'all', not {schedule.missed!r:.100}"
    if schedule.priority is not None and not isinstance(schedule.priority, Priority):
        yield f"priority must be a Priority or None, not {schedule.priority!r:.100}"
    retries: object = schedule.max_retries
    is_count = (
        isinstance(retries, int) and not isinstance(retries, bool) and 0 <= retries <= LARGEST_COUNT
    )
    if retries is not None and not is_count:
        yield f"max_retries must be a number of 0 or more, or None, not {retries!r:.100}"


def _payload_faults(found: _Found, registry: Registry) -> Iterator[str]:
    payload: object = found.schedule.payload
    if payload is not None and not isinstance(payload, Mapping):
        yield f"payload must be a mapping, not {payload!r:.100}"
        return
    handler = registry.get(found.action)
    try:
        if handler is not None:
            handler.schema.parse(payload)
    except PayloadInvalid as error:
        yield str(error)
    try:
        size = value_size(encode_document(payload or {}, "payload"))
    except ValidationError as error:
        yield error.message
    else:
        if size > _MAX_PAYLOAD_BYTES:
            yield f"the payload has {size} bytes, the limit is {_MAX_PAYLOAD_BYTES}"


def _nearest(action: str, registry: Registry) -> str:
    if not registry:
        return ": no handlers are loaded"
    (nearest,) = difflib.get_close_matches(action, list(registry), n=1, cutoff=0.0)
    return f"; the nearest is {nearest!r}"


def _definition(found: _Found) -> Definition:
    schedule = found.schedule
    return Definition(
        name=schedule.name,
        action=found.action,
        expression=CronExpression(schedule.cron, schedule.timezone),
        payload=schedule.payload or {},
        catch_up=schedule.catch_up,
        missed=schedule.missed,
        priority=schedule.priority,
        max_retries=schedule.max_retries,
    )
