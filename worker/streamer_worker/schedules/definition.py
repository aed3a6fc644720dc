"""The definition of a schedule, as a worker has checked it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from streamer_store import AsyncRequest, Priority, ScheduleRow
from streamer_store.schedule_row import listing
from streamer_worker.cron import CronExpression
from streamer_worker.handlers.schedules import Missed

_DIGEST_BYTES: Final = 8


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A schedule. The fields are those of `Schedule` (handlers/schedules.py)."""

    name: str
    action: str
    expression: CronExpression
    payload: Mapping[str, Any]
    catch_up: timedelta
    missed: Missed
    priority: Priority | None
    max_retries: int | None
    digest: str = field(init=False)
    """A hash of all other fields. Workers with the same one make the same requests."""

    def __post_init__(self) -> None:
        values = [
            *(self.name, self.action, self.expression.text, self.expression.timezone),
            *(dict(self.payload), self.catch_up.total_seconds(), self.missed),
            *(self.priority, self.max_retries),
        ]
        text = json.dumps(values, sort_keys=True, default=_sorted_or_text)
        digest = hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()
        object.__setattr__(self, "digest", digest)

    @property
    def listing(self) -> str:
        """How a worker lists the schedule in its row."""
        return listing(self.name, self.digest)

    def row(self, *, defined_by: datetime, now: datetime) -> ScheduleRow:
        """Return the row of a schedule that begins now: it has no ticks in the past.

        `defined_by`: when the worker started.
        """
        return ScheduleRow(
            name=self.name,
            action=self.action,
            expression=self.expression.text,
            timezone=self.expression.timezone,
            definition=self.digest,
            defined_by=defined_by,
            last_tick=now,
            listed_at=now,
        )

    def request(self, tick: datetime | None) -> AsyncRequest:
        """Return the request of a tick, without an id. None: an operator asked for it.

        Handlers find the schedule and the tick in the metadata.
        """
        metadata = {"schedule": self.name}
        if tick is not None:
            metadata["tick"] = tick.astimezone(UTC).isoformat().replace("+00:00", "Z")
        retries: dict[str, Any] = (
            {} if self.max_retries is None else {"max_retries": self.max_retries}
        )
        return AsyncRequest(
            action=self.action,
            payload={**self.payload, "_metadata": metadata},
            priority=self.priority,
            **retries,
        )


Definitions = Mapping[str, Definition]
"""The schedules of a worker, by name."""


def _sorted_or_text(value: object) -> object:
    """Return a form of a value that is the same in each process: sets have no order."""
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)
