"""The record of a worker's row."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from streamer_store.fleet_shares import Shares
from streamer_store.validation import (
    require_count,
    require_optional_count,
    require_optional_time,
    require_string,
    require_text,
    require_time,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerRow:
    """The row of one worker: its lease, its mailbox, and what other workers know about it."""

    worker_id: str
    """The key of the row. Each incarnation of a worker has a new one."""
    started_at: datetime
    """When this incarnation started, by the worker's clock. The oldest worker leads."""
    beat: int = 0
    """How many heartbeats were written. The lease is renewed when it changes."""
    seen_at: datetime | None = None
    """When the last heartbeat was written, by the worker's clock. None: not known."""
    host: str = ""
    """The name of the host."""
    pid: int = 0
    """The process id on that host."""
    release: str = ""
    """The version of the package that the worker runs."""
    actions: frozenset[str] = frozenset()
    """The actions that the worker has handlers for."""
    schedules: frozenset[str] = frozenset()
    """The schedules that the worker has, each as `name#definition` (schedule_row.listing)."""
    concurrency: int = 0
    """How many requests the worker runs at once, at most."""
    in_flight: int = 0
    """How many requests the worker holds."""
    draining: bool = False
    """Whether the worker finishes its requests and claims no more."""
    sweeps: int = 0
    """How many rounds of maintenance the worker has done as leader."""
    lanes: bool = False
    """Whether the worker's release writes the lanes of DueIndex."""
    pauses: bool = False
    """Whether the worker's release knows pauses."""
    shares: Shares = field(default_factory=dict, hash=False)
    """The worker's shares of actions of which the fleet runs a limited number, by action."""
    cancel: frozenset[str] = frozenset()
    """Mailbox: the Versions of cancelled requests whose handlers the worker must stop."""
    drain: bool = False
    """Mailbox: whether an operator ordered the worker to drain and exit."""
    ttl: int | None = None
    """Epoch seconds after which DynamoDB deletes the row. Each heartbeat sets 24 hours."""
    broken: str | None = None
    """What could not be decoded in the row. None: nothing. It is not stored."""

    def __post_init__(self) -> None:
        require_text("worker_id", self.worker_id)
        for name in ("host", "release"):
            require_string(name, getattr(self, name))
        require_time("started_at", self.started_at)
        require_optional_time("seen_at", self.seen_at)
        for name in ("beat", "pid", "concurrency", "in_flight", "sweeps"):
            require_count(name, getattr(self, name))
        require_optional_count("ttl", self.ttl)
