"""The record of a pause, and its attribute in the row of pauses (pure).

The row `control#pause` of the workers table has one attribute for each pause, such as
`action#report`. So two pauses never share a value, and a write of one needs no map that exists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from streamer_store.errors import Undecodable, ValidationError
from streamer_store.reserved_ids import CONTROL_PREFIX
from streamer_store.times import format_time, parse_time
from streamer_store.validation import (
    require_optional_time,
    require_string,
    require_text,
    require_time,
)
from streamer_store.values import AttributeValue, Item

CONTROL_PAUSE: Final = f"{CONTROL_PREFIX}pause"
"""The id of the row of pauses in the workers table."""
MAX_PAUSES: Final = 100
"""How many pauses there may be, so that reading the fleet stays cheap."""
MAX_NAME_BYTES: Final = 255
MAX_REASON_BYTES: Final = 500
_SEPARATOR: Final = "#"
_UNKNOWN: Final = datetime.fromtimestamp(0, UTC)
_NOBODY: Final = "unknown"
_TIMES: Final = {"At": "at", "Until": "until", "Probe": "probe_at"}
_TEXTS: Final = {"By": "by", "Reason": "reason"}


class PauseKind(StrEnum):
    """What a pause holds back, and who ends it."""

    ALL = "all"
    """Every request. An operator pauses and resumes it."""
    ACTION = "action"
    """The requests of an action. An operator pauses and resumes it."""
    TENANT = "tenant"
    """The requests of a tenant. An operator pauses and resumes it."""
    SCHEDULE = "schedule"
    """The ticks of a schedule. An operator pauses and resumes it."""
    HOLD = "hold"
    """The requests of an action, until a time that a handler gave with RetryLater."""
    FUSE = "fuse"
    """The requests of an action that failed too often, until one of them succeeds."""


OF_ACTIONS: Final = frozenset({PauseKind.ACTION, PauseKind.HOLD, PauseKind.FUSE})
"""The kinds of pauses whose name is an action."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pause:
    """A pause: workers claim none of its requests. Requests that run already go on."""

    kind: PauseKind
    """What the pause holds back."""
    name: str = ""
    """The action, the tenant or the schedule. Empty for ALL only. 255 bytes at most."""
    by: str
    """Who paused: user@host, or a worker's id."""
    at: datetime
    """When it was paused, by the clock of who paused."""
    until: datetime | None = None
    """When the pause ends by itself, by each worker's clock. None: never."""
    reason: str = ""
    """Why, in words. 500 bytes at most."""
    probe_at: datetime | None = None
    """FUSE: from when one more request may run, to find out whether it succeeds."""
    stored: AttributeValue | None = field(default=None, compare=False, repr=False)
    """The value in the table, as it was read. None: it was not read."""

    def __post_init__(self) -> None:
        if not isinstance(self.kind, PauseKind):
            raise ValidationError("kind", "must be a PauseKind")
        require_text("by", self.by)
        require_string("reason", self.reason)
        require_string("name", self.name)
        require_time("at", self.at)
        require_optional_time("until", self.until)
        require_optional_time("probe_at", self.probe_at)
        if bool(self.name) == (self.kind is PauseKind.ALL):
            must = "must be empty" if self.name else f"must name the {self.kind}"
            raise ValidationError("name", must)
        for name, most in (("name", MAX_NAME_BYTES), ("reason", MAX_REASON_BYTES)):
            _require_bytes(name, getattr(self, name), most)

    @property
    def key(self) -> str:
        """The name of its attribute, such as `action#report`."""
        return key_of(self.kind, self.name)

    def is_over(self, now: datetime) -> bool:
        """Return whether the pause has ended by itself."""
        return self.until is not None and self.until <= now

    def covers(self, action: str | None, tenant_id: str | None) -> bool:
        """Return whether the pause holds back the requests of this action and tenant."""
        if self.kind in OF_ACTIONS:
            return self.name == action
        if self.kind is PauseKind.TENANT:
            return self.name == tenant_id
        return self.kind is PauseKind.ALL


def key_of(kind: PauseKind, name: str) -> str:
    """Return the name of the attribute of such a pause."""
    return f"{kind}{_SEPARATOR}{name}"


def pause_value(pause: Pause, **more: str) -> AttributeValue:
    """Return the value of a pause's attribute. `more`: further texts to store in it."""
    times = {name: getattr(pause, of) for name, of in _TIMES.items()}
    texts = {name: getattr(pause, of) for name, of in _TEXTS.items()} | more
    return {
        "M": {name: {"S": format_time(value)} for name, value in times.items() if value is not None}
        | {name: {"S": value} for name, value in texts.items() if value}
    }


def pauses_of(item: Item | None, report: Callable[[Undecodable], None]) -> list[Pause]:
    """Return the pauses in the row of pauses, those that are over too. None: there is no row.

    An entry of which a part cannot be decoded is in force without that part: what an operator
    paused does not start because of it. `report` is called with the error of each such entry, and
    of each attribute that is no pause, which is left out.
    """
    pauses = []
    for key, stored in (item or {}).items():
        if key != "WorkerID":
            pause, broken = _decode(key, stored)
            if broken:
                report(Undecodable(f"{key}: {broken}", key=CONTROL_PAUSE))
            if pause is not None:
                pauses.append(pause)
    return sorted(pauses, key=lambda pause: pause.key)


def with_probe(pause: Pause, probe_at: datetime, by: str) -> Pause:
    """Return the fuse's pause with its next probe moved. `by`: the worker that probes now."""
    stored = dict((pause.stored or pause_value(pause))["M"])
    stored |= {"Probe": {"S": format_time(probe_at)}, "ProbedBy": {"S": by}}
    return replace(pause, probe_at=probe_at, stored={"M": stored})


def _decode(key: str, stored: AttributeValue) -> tuple[Pause | None, str]:
    """Return the pause, and what is wrong with its attribute."""
    kind, separator, name = key.partition(_SEPARATOR)
    if not separator or kind not in set(PauseKind):
        return None, "is no pause that this release knows"
    entry = stored.get("M")
    broken = "" if isinstance(entry, Mapping) else "expected a map"
    fields: dict[str, Any] = {}
    for attribute, of in _TEXTS.items():
        text, fault = _text(entry, attribute)
        fields[of], broken = text, broken or fault
    for attribute, of in _TIMES.items():
        text, fault = _text(entry, attribute)
        broken = broken or fault
        try:
            fields[of] = parse_time(text) if text else None
        except ValueError as error:
            fields[of], broken = None, broken or f"{attribute}: {error}"
    fields["by"] = fields["by"] or _NOBODY
    fields["at"] = fields["at"] or _UNKNOWN
    try:
        return Pause(kind=PauseKind(kind), name=name, stored=stored, **fields), broken
    except ValidationError as error:
        broken = broken or error.message
    try:  # a text that is too long is left out, unless it is the name
        fields |= {"by": _NOBODY, "reason": ""}
        return Pause(kind=PauseKind(kind), name=name, stored=stored, **fields), broken
    except ValidationError:
        return None, broken


def _text(entry: Any, attribute: str) -> tuple[str, str]:
    value = entry.get(attribute, {"S": ""}) if isinstance(entry, Mapping) else {"S": ""}
    text = value.get("S")
    return (text, "") if isinstance(text, str) else ("", f"{attribute}: expected text")


def _require_bytes(name: str, value: str, most: int) -> None:
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise ValidationError(name, "has half a surrogate pair, which is no text") from error
    if size > most:
        raise ValidationError(name, f"has {size} bytes, the limit is {most}")
