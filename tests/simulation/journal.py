"""What took effect on the table, as an observer sees it who knows nothing of conditions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from streamer_store import RequestStatus
from streamer_store.engine import Put, Update
from streamer_store.schema import REQUESTS, WORKERS
from streamer_store.values import Item
from streamer_store.versions import settle_version
from streamer_worker.error_codes import WORKER_LOST
from streamer_worker.settings import PresenceSettings

_SETTINGS: Final = PresenceSettings()
# Whoever cannot look for longer than this starts all stopwatches again.
_BLIND_AFTER: Final = 2 * _SETTINGS.heartbeat
# A verdict that was right may be carried out this much later, though the dead beats again.
_CARRIED_OUT_WITHIN: Final = 60.0


@dataclass(kw_only=True)
class _Presence:
    writer: str
    beaten: float
    back: float | None = None


@dataclass(kw_only=True)
class Journal:
    """`violations` says what should not have been; `taken` tells when a request was rescued
    from a worker which was taken for dead, `cancelled` when a running one was cancelled.
    """

    owners: dict[str, tuple[str, str]] = field(default_factory=dict)
    taken: dict[tuple[str, str], float] = field(default_factory=dict)
    cancelled: dict[str, float] = field(default_factory=dict)
    uncounted: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    _rows: dict[str, _Presence] = field(default_factory=dict)
    _buried: set[str] = field(default_factory=set)
    _seeing_since: float = 0.0
    _saw_since: float = 0.0
    _blind_from: float = 0.0

    def blind(self, now: float, seconds: float) -> None:
        """From now on nobody can look at the table: a time that proves nobody dead."""
        self._blind_from, self._saw_since = now, self._seeing_since
        if seconds > _BLIND_AFTER:
            for row in self._rows.values():
                if self._silent(row, now):
                    row.back = now + seconds
            self._seeing_since = now + seconds

    def sees(self, now: float) -> None:
        """It has ended, perhaps earlier than was said."""
        if now - self._blind_from <= _BLIND_AFTER:
            self._seeing_since = self._saw_since
        else:
            self._seeing_since = min(self._seeing_since, now)

    def note_put(self, writer: str, put: Put, now: float) -> None:
        if put.table is WORKERS:
            self._rows[put.key] = _Presence(writer=writer, beaten=now)

    def note_delete(self, writer: str, worker_id: str, now: float) -> None:
        if self._judge_death(writer, worker_id, now, "removed the row of"):
            self._buried.add(worker_id)
        self._rows.pop(worker_id, None)

    def note_update(self, writer: str, update: Update, old: Item | None, now: float) -> None:
        if update.table is WORKERS:
            self._note_row(writer, update, old, now)
        elif update.table is REQUESTS and old is not None:
            self._note_request(writer, update, old, now)

    def _note_row(self, writer: str, update: Update, old: Item | None, now: float) -> None:
        if old is None:
            self.violations.append(f"{writer} made a row of a worker by an update: {update.key}")
        row = self._rows.get(update.key)
        if row is not None and "Beat" in update.adds:
            if self._silent(row, now):
                row.back = now
            row.beaten = now

    def _note_request(self, writer: str, update: Update, old: Item, now: float) -> None:
        owner, version = self.owners.get(update.key, ("", ""))
        running = _text(old, "Status") == RequestStatus.PROCESSING
        mine = running and owner == writer
        settles = _text(update.sets, "Version") == settle_version(version)
        rescues = running and not settles and _text(update.sets, "ErrorCode") == WORKER_LOST
        worker_id = _text(old, "WorkerID") or ""
        if rescues and self._judge_death(writer, worker_id, now, "rescued from"):
            self.taken[update.key, owner] = now
        match _text(update.sets, "Status"):
            case RequestStatus.PROCESSING:
                self.owners[update.key] = (writer, update.sets["Version"]["S"])
            case None if not mine:
                self.violations.append(f"{writer} wrote progress to {update.key}, {owner} has it")
            case RequestStatus.COMPLETED if not (settles and mine):
                self.violations.append(f"{writer} completed {update.key}, {owner} has it")
            case RequestStatus.FAILED if running and not rescues and not (settles and mine):
                self.violations.append(f"{writer} failed {update.key}, {owner} has it")
            case RequestStatus.CANCELLED if running:
                self.cancelled[update.key] = now
            case RequestStatus.PENDING | RequestStatus.RETRYING:
                self._note_return(update, old)
                if running and not settles and not rescues:
                    self.violations.append(f"{writer} gave {update.key} back, {owner} has it")

    def _note_return(self, update: Update, old: Item) -> None:
        counted = update.sets.get("RetryCount")
        if counted is None or counted == old.get("RetryCount", {"N": "0"}):
            self.uncounted[update.key] = self.uncounted.get(update.key, 0) + 1

    def _judge_death(self, writer: str, worker_id: str, now: float, did: str) -> bool:
        """Only who was silent for the lease, while others could look, may be taken for dead.
        Return whether somebody was.
        """
        row = self._rows.get(worker_id)
        if row is None or row.writer == writer:
            return worker_id in self._buried
        back = row.back is not None and now - row.back <= _CARRIED_OUT_WITHIN
        if not back and not self._silent(row, now):
            seen = now - max(row.beaten, self._seeing_since)
            self.violations.append(
                f"{writer} {did} {row.writer}, {worker_id}, seen silent for {seen:.1f} s only"
            )
        return True

    def _silent(self, row: _Presence, now: float) -> bool:
        return now - max(row.beaten, self._seeing_since) >= _SETTINGS.lease


def _text(attributes: Item, name: str) -> str | None:
    return attributes.get(name, {}).get("S")
