"""The record of a schedule's row in the table of workers, and the ids of its requests (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from streamer_store.codec import raw_text
from streamer_store.errors import Undecodable, ValidationError
from streamer_store.reserved_ids import CONTROL_PREFIX, CRON_PREFIX
from streamer_store.times import format_time, parse_time
from streamer_store.validation import (
    require_optional_time,
    require_string,
    require_text,
    require_time,
)
from streamer_store.values import Item, short_repr

_ROW_PREFIX: Final = f"{CONTROL_PREFIX}{CRON_PREFIX}"
MAX_NAME_BYTES: Final = 200
"""The longest name of a schedule, in bytes of UTF-8."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleRow:
    """What the workers share about one schedule."""

    name: str
    """The name of the schedule. It holds no `#`."""
    action: str
    """The action of the requests that the schedule makes."""
    expression: str
    """The cron expression."""
    timezone: str
    """The IANA name of the time zone in which the expression is read."""
    definition: str
    """A hash of the whole definition, with the payload. Only workers with this one make ticks."""
    defined_by: datetime
    """When the worker started that wrote the definition, by its own clock."""
    last_tick: datetime
    """The time of the last tick that is done: made, or skipped. Later ones are to come."""
    listed_at: datetime
    """When a worker that has the schedule wrote the row last, by its own clock."""
    made_tick: datetime | None = None
    """The time of the last tick that made a request. None: none has."""
    run: str | None = None
    """The id of a request that an operator asked for. None: none is asked for."""

    def __post_init__(self) -> None:
        require_schedule_name(self.name)
        for field in ("action", "expression", "timezone", "definition"):
            require_text(field, getattr(self, field))
        for field in ("defined_by", "last_tick", "listed_at"):
            require_time(field, getattr(self, field))
        require_optional_time("made_tick", self.made_tick)
        if self.run is not None:
            require_string("run", self.run)

    @property
    def key(self) -> str:
        """The key of the row in the table of workers."""
        return row_key(self.name)


def require_schedule_name(name: str) -> None:
    """Raise ValidationError for a name that no schedule can have."""
    require_text("name", name)
    if "#" in name:
        raise ValidationError("name", f"must not contain '#': {short_repr(name)}")
    if not name.isprintable():  # a lone surrogate is not printable either
        raise ValidationError("name", f"must be printable text, not {short_repr(name)}")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise ValidationError("name", f"is longer than {MAX_NAME_BYTES} bytes: {short_repr(name)}")


def row_key(name: str) -> str:
    """Return the key of the schedule's row in the table of workers."""
    return f"{_ROW_PREFIX}{name}"


def tick_id(name: str, tick: datetime) -> str:
    """Return the id of the request of a tick: `cron#nightly_report#2027-01-31T02:00:00Z`."""
    second = tick.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return f"{CRON_PREFIX}{name}#{second}"


def schedule_item(row: ScheduleRow) -> Item:
    """Return the item of a row without an order to run.

    It has no TTL, StartedAt or Beat (see CONTROL_PREFIX).
    """
    return {"WorkerID": {"S": row.key}, **definition_attributes(row)}


def definition_attributes(row: ScheduleRow) -> Item:
    """Return the attributes of a row that workers write."""
    made = {} if row.made_tick is None else {"MadeTick": {"S": format_time(row.made_tick)}}
    return made | {
        "Action": {"S": row.action},
        "Expression": {"S": row.expression},
        "Timezone": {"S": row.timezone},
        "Definition": {"S": row.definition},
        "DefinedBy": {"S": format_time(row.defined_by)},
        "LastTick": {"S": format_time(row.last_tick)},
        "ListedAt": {"S": format_time(row.listed_at)},
    }


def decode_schedule(item: Item) -> ScheduleRow:
    """Return the record of a row. Raises Undecodable."""
    key = raw_text(item, "WorkerID")
    try:
        return ScheduleRow(
            name=key.removeprefix(_ROW_PREFIX),
            action=_text(item, "Action"),
            expression=_text(item, "Expression"),
            timezone=_text(item, "Timezone"),
            definition=_text(item, "Definition"),
            defined_by=_time(item, "DefinedBy"),
            last_tick=_time(item, "LastTick"),
            listed_at=_time(item, "ListedAt"),
            made_tick=_time(item, "MadeTick") if "MadeTick" in item else None,
            run=_text(item, "Run") if "Run" in item else None,
        )
    except (ValidationError, ValueError) as error:
        raise Undecodable(str(error), key=key) from error


def decode_schedules(controls: Mapping[str, Item]) -> tuple[list[ScheduleRow], list[Undecodable]]:
    """Return the rows of schedules among the control rows, and the errors of the others."""
    rows, errors = [], []
    for key, item in controls.items():
        if key.startswith(_ROW_PREFIX):
            try:
                rows.append(decode_schedule(item))
            except Undecodable as error:
                errors.append(error)
    return rows, errors


def listing(name: str, definition: str) -> str:
    """Return how a worker lists a schedule in its row: the name and the definition."""
    return f"{name}#{definition}"


def listed_names(schedules: Iterable[str]) -> dict[str, str]:
    """Return the definition of each schedule that a worker lists, by name."""
    pairs = (entry.rpartition("#") for entry in schedules)
    return {name: definition for name, _, definition in pairs}


def _text(item: Item, name: str) -> str:
    value = item.get(name, {}).get("S")
    if not isinstance(value, str):
        raise ValueError(f"{name} is no text")
    return value


def _time(item: Item, name: str) -> datetime:
    moment = parse_time(_text(item, name))
    if moment is None:
        raise ValueError(f"{name} is no time")
    return moment
