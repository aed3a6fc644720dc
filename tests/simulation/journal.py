"""A record of all writes that took effect. It does not rely on the conditions of writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from streamer_store import RequestStatus
from streamer_store.engine import Put, Update
from streamer_store.lanes import LANE_ATTRIBUTES
from streamer_store.rate_limits import LIMIT_PREFIX
from streamer_store.reserved_ids import CONTROL_PREFIX
from streamer_store.schema import WORKERS
from streamer_store.values import Item
from streamer_store.versions import settle_version
from streamer_worker.error_codes import WORKER_LOST
from streamer_worker.settings import PresenceSettings

_SETTINGS: Final = PresenceSettings()
# A worker that cannot read the table for longer than this restarts its timers of all others.
_MAX_BLACKOUT: Final = 2 * _SETTINGS.heartbeat
# A worker that was rightly declared dead may send heartbeats again. Others may still act on the
# declaration for so many seconds.
_GRACE_AFTER_RETURN: Final = 60.0


@dataclass(kw_only=True)
class _Presence:
    """The heartbeats of a worker. `returned_at`: when it sent one after having been silent."""

    writer: str
    last_heartbeat: float
    returned_at: float | None = None


@dataclass(kw_only=True)
class Journal:
    """The writes of all workers, and the rules that they broke.

    - `owners`: the worker and Version of the last claim of each request.
    - `rescued_at`: when a request was rescued from a worker, by request and worker.
    - `cancelled_at`: when a running request was cancelled.
    - `uncounted`: how often a request was returned to the queue without using an attempt.
    - `violations`: what should not have happened.
    """

    owners: dict[str, tuple[str, str]] = field(default_factory=dict)
    rescued_at: dict[tuple[str, str], float] = field(default_factory=dict)
    cancelled_at: dict[str, float] = field(default_factory=dict)
    uncounted: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    _rows: dict[str, _Presence] = field(default_factory=dict)
    _removed: set[str] = field(default_factory=set)
    _readable_since: float = 0.0
    _readable_since_before: float = 0.0
    _blackout_from: float = 0.0

    def begin_blackout(self, now: float, seconds: float) -> None:
        """Note that from now on no worker can read the table: silence proves nothing then."""
        self._blackout_from, self._readable_since_before = now, self._readable_since
        if seconds > _MAX_BLACKOUT:
            for row in self._rows.values():
                if self._is_silent(row, now):
                    row.returned_at = now + seconds
            self._readable_since = now + seconds

    def end_blackout(self, now: float) -> None:
        """Note that the blackout has ended, perhaps earlier than `begin_blackout` said."""
        if now - self._blackout_from <= _MAX_BLACKOUT:
            self._readable_since = self._readable_since_before
        else:
            self._readable_since = min(self._readable_since, now)

    def note_put(self, writer: str, put: Put, now: float) -> None:
        if put.table is WORKERS:
            self._rows[put.key] = _Presence(writer=writer, last_heartbeat=now)

    def note_delete(self, writer: str, worker_id: str, now: float) -> None:
        if self._check_death(writer, worker_id, now, "removed the row of"):
            self._removed.add(worker_id)
        self._rows.pop(worker_id, None)

    def note_update(self, writer: str, update: Update, old: Item | None, now: float) -> None:
        if update.table is WORKERS:
            self._note_row(writer, update, old, now)
        elif old is not None and not update.key.startswith(LIMIT_PREFIX):
            self._note_request(writer, update, old, now)

    def _note_row(self, writer: str, update: Update, old: Item | None, now: float) -> None:
        if old is None and not update.key.startswith(CONTROL_PREFIX):
            self.violations.append(
                f"{writer} created the row of a worker by an update: {update.key}"
            )
        row = self._rows.get(update.key)
        if row is not None and "Beat" in update.adds:
            if self._is_silent(row, now):
                row.returned_at = now
            row.last_heartbeat = now

    def _note_request(self, writer: str, update: Update, old: Item, now: float) -> None:
        if {*update.sets, *update.removes} <= {*LANE_ATTRIBUTES}:
            return  # Any worker may correct a lane.
        owner, version = self.owners.get(update.key, ("", ""))
        running = _text(old, "Status") == RequestStatus.PROCESSING
        is_owner = running and owner == writer
        settles = _text(update.sets, "Version") == settle_version(version)
        rescues = running and not settles and _text(update.sets, "ErrorCode") == WORKER_LOST
        worker_id = _text(old, "WorkerID") or ""
        if rescues and self._check_death(writer, worker_id, now, "rescued from"):
            self.rescued_at[update.key, owner] = now
        match _text(update.sets, "Status"):
            case RequestStatus.PROCESSING:
                self.owners[update.key] = (writer, update.sets["Version"]["S"])
            case None if not is_owner:
                self.violations.append(f"{writer} wrote progress to {update.key}, {owner} has it")
            case RequestStatus.COMPLETED if not (settles and is_owner):
                self.violations.append(f"{writer} completed {update.key}, {owner} has it")
            case RequestStatus.FAILED if running and not rescues and not (settles and is_owner):
                self.violations.append(f"{writer} failed {update.key}, {owner} has it")
            case RequestStatus.CANCELLED if running:
                self.cancelled_at[update.key] = now
            case RequestStatus.PENDING | RequestStatus.RETRYING | RequestStatus.SCHEDULED:
                self._note_return(update, old)
                if running and not settles and not rescues:
                    self.violations.append(f"{writer} released {update.key}, {owner} has it")

    def _note_return(self, update: Update, old: Item) -> None:
        retry_count = update.sets.get("RetryCount")
        if retry_count is None or retry_count == old.get("RetryCount", {"N": "0"}):
            self.uncounted[update.key] = self.uncounted.get(update.key, 0) + 1

    def _check_death(self, writer: str, worker_id: str, now: float, verb: str) -> bool:
        """Check that a worker that was declared dead was silent for the lease.

        Only the time counts in which others could read the table. Return whether `worker_id` was
        declared dead by another worker.
        """
        row = self._rows.get(worker_id)
        if row is None or row.writer == writer:
            return worker_id in self._removed
        recently_returned = (
            row.returned_at is not None and now - row.returned_at <= _GRACE_AFTER_RETURN
        )
        if not recently_returned and not self._is_silent(row, now):
            silence = now - max(row.last_heartbeat, self._readable_since)
            self.violations.append(
                f"{writer} {verb} {row.writer}, {worker_id}, silent for only {silence:.1f} s"
            )
        return True

    def _is_silent(self, row: _Presence, now: float) -> bool:
        return now - max(row.last_heartbeat, self._readable_since) >= _SETTINGS.lease


def _text(attributes: Item, name: str) -> str | None:
    return attributes.get(name, {}).get("S")
