"""Events about what is paused."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseStarted:
    """This worker knows of a new pause, or of one that has changed. Emitted by `fleet.pauses`.

    kind: `all`, `action`, `tenant` or `schedule`: an operator paused it; `hold`: a handler held
        its action back with RetryLater; `fuse`: the action failed too often.
    name: the action, the tenant or the schedule. Empty for `all`.
    by: who paused: user@host, or the id of a worker.
    until: when it ends by itself. None: never.
    reason: why, as text. Empty: not given.
    in_force: number of pauses of this kind that are in force now.
    """

    kind: str
    name: str
    by: str
    until: datetime | None
    reason: str
    in_force: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseEnded:
    """A pause was ended, or is over. Emitted by `fleet.pauses`.

    kind: as in PauseStarted.
    name: as in PauseStarted.
    in_force: number of pauses of this kind that are in force now.
    """

    kind: str
    name: str
    in_force: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseBlown:
    """An action has failed so often on this worker that it is paused. Emitted by
    `execution.pausing`.

    failures: number of its attempts that failed within the window.
    within: the window, in seconds.
    """

    action: str
    failures: int
    within: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseProbed:
    """One request of an action whose fuse has blown may run. Emitted by `intake.pause_gate`.

    request_id: the request that is claimed. If it succeeds, the action is no longer paused.
    """

    action: str
    request_id: str


PauseEvent = PauseStarted | PauseEnded | FuseBlown | FuseProbed
