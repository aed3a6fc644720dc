"""The settings of the components of a worker, a frozen model for each.

docs/settings.md is generated from the descriptions. Durations are in seconds here.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import NoDecode

from streamer_store.rescues import MAX_RESCUES
from streamer_worker.settings.component import Component
from streamer_worker.settings.cpus import usable_cpus
from streamer_worker.settings.parsing import as_list, duration
from streamer_worker.settings.patterns import HOST

DAY = 86400.0
_MIN_HEARTBEATS_PER_LEASE = 3
Duration = Annotated[float, BeforeValidator(duration), Field(gt=0, allow_inf_nan=False)]
HostPattern = Annotated[str, Field(pattern=HOST)]
HostPatterns = Annotated[tuple[HostPattern, ...], NoDecode, BeforeValidator(as_list)]


class PollSettings(Component):
    """How often the worker reads StatusIndex, and how long a request is left to other workers."""

    min_interval: Duration = Field(
        default=0.05,
        le=60,
        description="First pause after a poll that finds nothing; later pauses are longer",
    )
    max_interval: Duration = Field(
        default=0.5, le=600, description="Longest pause between two polls"
    )
    steal_delay: Duration = Field(
        default=0.6,
        le=60,
        description="Time that a request is left to each worker that ranks before this one for it",
    )
    unknown_action_timeout: Duration = Field(
        default=1800.0,
        le=30 * DAY,
        description="Time after which a request fails if no live worker handles its action",
    )
    low_priority_patience: Duration = Field(
        default=3600.0,
        le=30 * DAY,
        description="Time after which a request of low priority that could run counts as normal",
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min_interval > self.max_interval:
            raise ValueError(
                f"poll.min_interval ({self.min_interval:g} s) is longer than"
                f" poll.max_interval ({self.max_interval:g} s)"
            )
        return self


class HandlerSettings(Component):
    """Limits of handlers. `@handler(timeout=...)` overrides `timeout`."""

    timeout: Duration = Field(
        default=900.0, le=30 * DAY, description="Longest time that an attempt may take"
    )
    cancel_grace: Duration = Field(
        default=5.0, le=3600, description="Time that a cancelled handler may take to end"
    )
    threads: int = Field(
        default=32,
        ge=1,
        le=1000,
        description="Maximum number of synchronous handlers that run at once",
    )
    processes: int = Field(
        default_factory=usable_cpus,
        ge=1,
        le=1000,
        description="Maximum number of handlers with `process=True` that run at once; by default"
        " the number of CPUs that the worker may use",
    )


class PresenceSettings(Component):
    """The worker's heartbeat, and when a worker is declared dead."""

    heartbeat: Duration = Field(
        default=4.0, ge=0.1, le=600, description="Time between two heartbeats"
    )
    lease: Duration = Field(
        default=16.0,
        le=DAY,
        description="Time without a heartbeat after which a worker is declared dead and its"
        " requests are rescued; at least three times `heartbeat`",
    )
    foreign_claim_timeout: Duration | None = Field(
        default=None,
        le=365 * DAY,
        description="Time after which a request is rescued from a consumer that has no worker row;"
        " never by default",
    )
    stuck_after: Duration = Field(
        default=300.0,
        ge=1,
        le=DAY,
        description="Time after which a worker ends itself if its event loop is blocked",
    )

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        if self.lease < _MIN_HEARTBEATS_PER_LEASE * self.heartbeat:
            raise ValueError(
                f"presence.lease ({self.lease:g} s) is shorter than three times"
                f" presence.heartbeat ({self.heartbeat:g} s)"
            )
        return self

    @property
    def margin(self) -> float:
        """How long before the end of its lease a worker fences itself, in seconds."""
        return self.heartbeat / 2


class RescueSettings(Component):
    """How requests are treated whose workers died."""

    max_rescues: int = Field(
        default=MAX_RESCUES,
        ge=3,
        le=1000,
        description="Number of lost workers that a request survives; it fails after one more, if"
        " the last four were lost while it was in probation",
    )
    min_worker_age: Duration = Field(
        default=45.0,
        le=3600,
        description="Age from which a worker runs requests that have lost two or more workers",
    )


class ReaperSettings(Component):
    """How the leader deletes stale connections."""

    enabled: bool = Field(default=True, description="Whether stale connections are deleted")
    interval: Duration = Field(default=300.0, le=DAY, description="Pause between two sweeps")
    stale_after: Duration = Field(
        default=7800.0,
        ge=60,
        le=365 * DAY,
        description="Time since the last ping after which a connection is stale (API Gateway closes"
        " connections after 2 h)",
    )
    dry_run: bool = Field(default=False, description="Count stale connections, and delete none")


class DepthSettings(Component):
    """How the leader counts waiting requests, for the metrics."""

    interval: Duration = Field(default=15.0, ge=1, le=DAY, description="Pause between two counts")
    limit: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="Maximum number of requests that are counted per status",
    )


class PauseSettings(Component):
    """How handlers pause their action."""

    max_hold: Duration = Field(
        default=3600.0,
        le=DAY,
        description='Longest time for which `RetryLater(..., scope="action")` holds an action back',
    )


class RetentionSettings(Component):
    """How long requests are kept after their end, until TTL deletes them."""

    completed: Duration = Field(
        default=7 * DAY, ge=1, le=3650 * DAY, description="Time that COMPLETED requests are kept"
    )
    failed: Duration = Field(
        default=7 * DAY,
        ge=1,
        le=3650 * DAY,
        description="Time that FAILED requests are kept, and can be redriven",
    )
    cancelled: Duration = Field(
        default=7 * DAY, ge=1, le=3650 * DAY, description="Time that CANCELLED requests are kept"
    )


class NotifierSettings(Component):
    """How connections are notified through API Gateway."""

    hosts: HostPatterns = Field(
        default=("*.execute-api.*.amazonaws.com", "*.execute-api.*.amazonaws.com.cn"),
        description="Hosts that may be posted to; `*` stands for one label of the name",
    )
    more_hosts: HostPatterns = Field(
        default=(),
        description="Hosts that may be posted to as well, such as a custom domain; without TLS if"
        " the name has the scheme, as `http://localhost:8797`",
    )
    timeout: Duration = Field(default=3.0, le=60, description="Longest time that a post may take")
    max_concurrent_posts: int = Field(
        default=100, ge=1, le=1000, description="Maximum number of posts at the same time"
    )
    progress_rate: int = Field(
        default=200,
        ge=1,
        le=100_000,
        description="Maximum number of progress messages per second, over all connections",
    )
    message_rate: int = Field(
        default=1000,
        ge=1,
        le=100_000,
        description="Maximum number of handlers' own messages per second, over all connections",
    )
    go_messages: bool = Field(
        default=False,
        description="Whether messages are also fit for clients of the Go implementation: progress"
        " at the start (0 %) and before `complete` (100 %), and `success` inside `result`",
    )

    @property
    def allowed_hosts(self) -> tuple[str, ...]:
        """All hosts that may be posted to."""
        return self.hosts + self.more_hosts


class HttpSettings(Component):
    """The HTTP server for metrics and health probes."""

    enabled: bool = Field(default=True, description="Whether the HTTP server runs")
    host: str = Field(default="0.0.0.0", description="Address to listen on")  # noqa: S104
    port: int = Field(
        default=9464, ge=0, le=65535, description="Port to listen on; 0 takes a free one"
    )
