"""Events about the connections that messages are pushed to.

All but ConnectionsReaped are emitted on the push thread, and PushTried also on any other.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PushTried:
    """A message was posted to a connection, or given up. Emitted by `push.deliveries` and
    `push.push_thread`.

    type: `progress`, `complete`, `error`, or `message`: a handler's own.
    outcome: `sent`; `gone`: the connection is closed; `failed`; `refused`: its endpoint is not
        allowed; `dropped`: newer progress replaced it, too many messages or bytes wait, or a
        handler's message became too old; `unresolved`: its recipients could not be read from the
        table.
    code: why it failed: an HTTP status, or the name of an exception. None if it did not.
        `too_many_connections`: a broadcast had more recipients than its limit.
    count: number of messages.
    """

    type: str
    outcome: str
    code: str | None = None
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRefused:
    """The endpoint of a connection is not allowed by `notifier.hosts` and `notifier.more_hosts`, so
    nothing was posted to it. Emitted by `push.deliveries`.

    connection_id: the connection.
    reason: why it is not allowed.
    """

    connection_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PushLogged:
    """A message that would have been posted, with the setting `push` = `log`. Emitted by
    `push.log_post`.

    connection_id: the connection.
    url: the URL of the management API.
    data: the message, at most 2,000 characters of it.
    """

    connection_id: str
    url: str
    data: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSuspended:
    """Three posts to a connection have failed in a row, so the next one waits for 30 seconds.
    Emitted by `push.deliveries`, once until a post succeeds.

    connection_id: the connection.
    code: why the last post failed.
    """

    connection_id: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionGone:
    """A closed connection was deleted from the tables. Emitted by `push.recipients`.

    connection_id: the connection.
    subscriptions: number of its subscriptions that were deleted.
    """

    connection_id: str
    subscriptions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PushServiceFailed:
    """The push service has ended by an exception, and starts again. Emitted by
    `push.push_thread`.

    error: the exception.
    """

    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionsReaped:
    """The leader has swept the stale connections. Emitted by `maintenance.reaper`.

    found: number of stale connections.
    deleted: number of those that were deleted.
    kept: number of those that pinged meanwhile.
    undecodable: number of invalid items, which are kept.
    dry_run: nothing was deleted (`reaper.dry_run`).
    seconds: duration of the sweep.
    """

    found: int
    deleted: int
    kept: int
    undecodable: int
    dry_run: bool
    seconds: float


ConnectionEvent = (
    PushTried
    | EndpointRefused
    | PushLogged
    | ConnectionSuspended
    | ConnectionGone
    | PushServiceFailed
    | ConnectionsReaped
)
