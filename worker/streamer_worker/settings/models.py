"""What there is to set: one frozen model per component."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from streamer_store.rescues import MAX_RESCUES
from streamer_worker.settings.cpus import usable_cpus
from streamer_worker.settings.environment import PREFIX, FilteredEnvironment
from streamer_worker.settings.parsing import as_levels, as_list, seconds

_DAY = 86400.0
_BEATS_PER_LEASE = 3
Duration = Annotated[float, BeforeValidator(seconds), Field(gt=0, allow_inf_nan=False)]


HostPattern = Annotated[
    str, Field(pattern=r"^(\*|[A-Za-z0-9-]+)(\.(\*|[A-Za-z0-9-]+))*(:[0-9]{1,5})?$")
]


Level = Literal["debug", "info", "warning", "error"]
# At lower levels these tell what is sent, credentials among it.
QUIET = ("aiobotocore", "aiohttp", "botocore", "urllib3")


def _not_too_loud(levels: Mapping[str, str]) -> Mapping[str, str]:
    for name, level in levels.items():
        if name.partition(".")[0] in QUIET and level in {"debug", "info"}:
            raise ValueError(
                f"log.levels (STREAMER_LOG_LEVELS): {name} tells what it sends at level {level};"
                " warning is the least"
            )
    return levels


class _Component(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PollSettings(_Component):
    """How often StatusIndex is asked when there is nothing to do."""

    min_interval: Duration = Field(
        default=0.05, le=60, description="First pause after an empty poll"
    )
    max_interval: Duration = Field(default=0.5, le=600, description="Longest pause between polls")
    steal_delay: Duration = Field(
        default=0.6, le=60, description="How long another worker's own request is left to it"
    )
    unknown_action_timeout: Duration = Field(
        default=1800.0,
        le=30 * _DAY,
        description="How long an action that no live worker lists may wait before it fails",
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min_interval > self.max_interval:
            raise ValueError("poll.min_interval is longer than poll.max_interval")
        return self


class HandlerSettings(_Component):
    """What handlers may take; `@handler` can say otherwise."""

    timeout: Duration = Field(default=900.0, le=30 * _DAY, description="Longest attempt")
    cancel_grace: Duration = Field(
        default=5.0, le=3600, description="How long a handler that is told to end may take"
    )
    threads: int = Field(default=32, ge=1, le=1000, description="Synchronous handlers run at once")
    processes: int = Field(
        default_factory=usable_cpus,
        ge=1,
        le=1000,
        description="Handlers with process=True run at once; as many as CPUs may be used",
    )


class PresenceSettings(_Component):
    """The worker's row in the fleet."""

    heartbeat: Duration = Field(default=4.0, ge=0.1, le=600, description="Time between beats")
    lease: Duration = Field(
        default=16.0,
        le=_DAY,
        description="Silence after which a worker is taken for dead; at least three heartbeats",
    )
    foreign_claim_timeout: Duration | None = Field(
        default=None,
        le=365 * _DAY,
        description="When to rescue what a consumer without a row has had; never, unless set",
    )
    stuck_after: Duration = Field(
        default=300.0, ge=1, le=_DAY, description="When an event loop that is blocked is ended"
    )

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        if self.lease < _BEATS_PER_LEASE * self.heartbeat:
            raise ValueError(
                f"presence.lease ({self.lease:g} s) is shorter than three times"
                f" presence.heartbeat ({self.heartbeat:g} s)"
            )
        return self

    @property
    def margin(self) -> float:
        """How long before the lease's end a worker gives itself up, in seconds."""
        return self.heartbeat / 2


class RescueSettings(_Component):
    """Requests whose workers were lost."""

    max_rescues: int = Field(
        default=MAX_RESCUES,
        ge=3,
        le=1000,
        description="Lost workers that a request may survive; it fails after more, if the last"
        " four were lost while it was in probation",
    )
    min_worker_age: Duration = Field(
        default=45.0,
        le=3600,
        description="Age from which a worker runs requests whose workers were lost twice",
    )


class ReaperSettings(_Component):
    """Removal of connections that went silent."""

    enabled: bool = Field(default=True, description="Whether stale connections are removed")
    interval: Duration = Field(default=300.0, le=_DAY, description="Pause between two sweeps")
    stale_after: Duration = Field(
        default=7800.0,
        ge=60,
        le=365 * _DAY,
        description="Silence after which a connection is stale (API Gateway ends one after 2 h)",
    )
    dry_run: bool = Field(default=False, description="Count stale connections, remove none")


class DepthSettings(_Component):
    """How the leader counts what waits, for the metrics."""

    interval: Duration = Field(default=15.0, ge=1, le=_DAY, description="Pause between two counts")
    limit: int = Field(
        default=10_000, ge=1, le=1_000_000, description="Most requests counted of a status"
    )


class NotifierSettings(_Component):
    """How connections are told of their requests."""

    hosts: Annotated[tuple[HostPattern, ...], NoDecode, BeforeValidator(as_list)] = Field(
        default=("*.execute-api.*.amazonaws.com", "*.execute-api.*.amazonaws.com.cn"),
        description="Hosts that may be called; a * is one label of the name",
    )
    timeout: Duration = Field(default=3.0, le=60, description="How long a post may take")
    max_concurrent_posts: int = Field(default=100, ge=1, le=1000, description="Posts at once")
    progress_rate: int = Field(
        default=200, ge=1, le=100_000, description="Progress messages a second, in all"
    )


class HttpSettings(_Component):
    """Where Prometheus scrapes and orchestrators probe."""

    enabled: bool = Field(default=True, description="Whether there is an HTTP server")
    host: str = Field(default="0.0.0.0", description="Address to listen on")  # noqa: S104
    port: int = Field(default=9464, ge=0, le=65535, description="Port; 0 takes a free one")


class LogSettings(_Component):
    """What is logged, and how."""

    level: Level = Field(default="info", description="Least level that is logged")
    levels: Annotated[
        Mapping[str, Level], NoDecode, BeforeValidator(as_levels), AfterValidator(_not_too_loud)
    ] = Field(default={}, description="Least levels of loggers by name: `my.plugin=debug`")
    format: Literal["auto", "json", "console"] = Field(
        default="auto", description="auto: console on a terminal, else JSON"
    )


class Settings(BaseSettings):
    """All settings of a worker."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=PREFIX,
        env_nested_delimiter="_",
        env_nested_max_split=1,
        env_ignore_empty=True,
    )

    concurrency: int = Field(default=32, ge=1, le=10_000, description="Requests run at once")
    table_prefix: str = Field(
        default="streamer_",
        max_length=200,
        pattern=r"^[A-Za-z0-9_.-]*$",
        description="What the tables' names begin with",
    )
    endpoint_url: str | None = Field(
        default=None, pattern=r"^https?://", description="DynamoDB's URL, when not AWS's own"
    )
    region: str | None = Field(default=None, min_length=1, description="AWS region")
    drain_timeout: Duration = Field(
        default=25.0, le=_DAY, description="How long running handlers may go on after SIGTERM"
    )
    exit_timeout: Duration = Field(
        default=5.0, le=3600, description="How long exit hooks (`atexit`) may take at the end"
    )
    tenant_concurrency: int | None = Field(
        default=None, ge=1, description="Requests of one tenant run at once by a worker"
    )
    push: Literal["apigateway", "off"] = Field(
        default="apigateway", description="How connections are told: through API Gateway, or not"
    )
    poll: PollSettings = PollSettings()
    handler: HandlerSettings = HandlerSettings()
    presence: PresenceSettings = PresenceSettings()
    rescue: RescueSettings = RescueSettings()
    reaper: ReaperSettings = ReaperSettings()
    depth: DepthSettings = DepthSettings()
    notifier: NotifierSettings = NotifierSettings()
    http: HttpSettings = HttpSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del env_settings, dotenv_settings, file_secret_settings
        # What the file says is handed in as arguments, and the environment goes before it.
        return FilteredEnvironment(settings_cls), init_settings
