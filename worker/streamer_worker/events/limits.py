"""Events about the limits of the whole fleet, and the clock that they rest on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitMeasured:
    """What happened to this worker's permits of an action's rate limit since the last one.
    Emitted by `intake.rate_limits`, at most once a second, and only while requests wait for
    permits or permits are held.

    per_tenant: whether it is the limit of each tenant: the counts are those of all tenants.
    granted: number of permits that the worker got.
    refused: number of times that there was none.
    expired: number of permits that no request used in time.
    saturated: seconds in which a request waited for a permit; of tenants, the one with the most.
    """

    action: str
    per_tenant: bool
    granted: int
    refused: int
    expired: int
    saturated: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSkewed:
    """The host's clock differs from DynamoDB's by more than 2 seconds, and did not before.
    Emitted by `fleet.server_clock`. The permits of rate limits use DynamoDB's time, within a
    second. Everything else uses the host's.

    seconds: by how much the host's clock is ahead; negative if it is behind.
    """

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionSettingsUnused:
    """The settings have limits for an action that no installed handler has. Emitted by `wiring`.

    action: the action.
    nearest: the action of a handler whose name is nearest. None: none is near.
    """

    action: str
    nearest: str | None


LimitEvent = RateLimitMeasured | ClockSkewed | ActionSettingsUnused
