"""The settings of schedules, by name."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from streamer_store import Priority
from streamer_store.errors import ValidationError
from streamer_store.schedule_row import require_schedule_name
from streamer_worker.cron import CronExpression, parse_timezone
from streamer_worker.sanitize import pydantic_message
from streamer_worker.settings.component import Component
from streamer_worker.settings.parsing import duration

SCHEDULES: Final = "schedules"
LONGEST_CATCH_UP: Final = 86_400.0
"""Seconds."""


def _valid_name(name: str) -> str:
    try:
        require_schedule_name(name)
    except ValidationError as error:
        raise ValueError(error.message) from error
    return name


def _valid_cron(text: str) -> str:
    CronExpression(text, "UTC")
    return text


def _valid_timezone(name: str) -> str:
    parse_timezone(name)
    return name


class ScheduleSettings(Component):
    """A schedule of its own, or what differs from the schedule of a handler with this name.

    `streamer_worker.schedules` checks what depends on the handlers.
    """

    action: str | None = Field(
        default=None,
        description="Action of the requests; by default that of the handler's"
        " schedule with this name, or else the name itself",
    )
    cron: Annotated[str, AfterValidator(_valid_cron)] | None = Field(
        default=None, description="Cron expression"
    )
    timezone: Annotated[str, AfterValidator(_valid_timezone)] | None = Field(
        default=None, description="IANA name of the time zone"
    )
    payload: dict[str, Any] | None = Field(default=None, description="Payload of each request")
    catch_up: Annotated[float, BeforeValidator(duration)] | None = Field(
        default=None,
        ge=0,
        le=LONGEST_CATCH_UP,
        description="How late a tick may still be made, a day at most",
    )
    missed: Literal["last", "all"] | None = Field(
        default=None, description="Which ticks are made late: the `last` one, or `all`"
    )
    priority: Priority | None = Field(
        default=None, description="Priority of the requests: `high` or `low`"
    )
    max_retries: int | None = Field(
        default=None, ge=0, description="Number of retries of each request"
    )


def _from_json(value: object) -> object:
    """Return a text, as the environment has it, as the mapping that it describes in JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except RecursionError as error:
        raise ValueError(f"{SCHEDULES} (STREAMER_SCHEDULES): nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"{SCHEDULES} (STREAMER_SCHEDULES): not JSON: {error}") from error


Schedules = Annotated[
    Mapping[Annotated[str, AfterValidator(_valid_name)], ScheduleSettings],
    NoDecode,
    BeforeValidator(_from_json),
]


def as_plain(schedules: Mapping[str, ScheduleSettings]) -> dict[str, Any]:
    """Return schedules as a mapping of the options that are set."""
    return {name: one.model_dump(exclude_none=True) for name, one in schedules.items()}


def fault_of_schedule(fault: Any) -> str | None:
    """Return the text of pydantic's fault if it is inside of one schedule."""
    match fault["loc"]:
        case ("schedules", str() as schedule, str() as option, *_):
            place = f"{SCHEDULES}.{schedule}.{option}"
        case ("schedules", str() as schedule):
            return f"{SCHEDULES}.{schedule}: must be a table such as [{SCHEDULES}.{schedule}]"
        case _:
            return None
    if fault["type"] == "value_error":  # its text names the option
        return f"{SCHEDULES}.{schedule}: {fault['ctx']['error']}"
    if fault["type"] == "extra_forbidden":
        known = list(ScheduleSettings.model_fields)
        (nearest,) = difflib.get_close_matches(option.lower(), known, n=1, cutoff=0.0)
        return f"{place}: no such option; the nearest is {nearest}"
    return f"{place}: {pydantic_message(fault)}, not {fault['input']!r:.100}"
