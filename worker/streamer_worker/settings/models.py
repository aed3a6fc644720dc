"""The settings of a worker: those of its components, and those of the whole."""

from __future__ import annotations

from typing import Literal

from pydantic import (
    Field,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from streamer_store import TableNames, ValidationError
from streamer_worker.settings.actions import Actions
from streamer_worker.settings.components import (
    DAY,
    DepthSettings,
    Duration,
    HandlerSettings,
    HttpSettings,
    NotifierSettings,
    PauseSettings,
    PollSettings,
    PresenceSettings,
    ReaperSettings,
    RescueSettings,
    RetentionSettings,
)
from streamer_worker.settings.environment import PREFIX, FilteredEnvironment
from streamer_worker.settings.log import LogSettings
from streamer_worker.settings.patterns import PUSH_ENDPOINT, TABLE_PREFIX, URL
from streamer_worker.settings.schedules import Schedules
from streamer_worker.settings.table_names import TableNameSettings


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

    concurrency: int = Field(
        default=32, ge=1, le=10_000, description="Maximum number of requests that run at once"
    )
    table_prefix: str = Field(
        default="streamer_",
        max_length=200,
        pattern=TABLE_PREFIX,
        description="Prefix of the names of the tables",
    )
    endpoint_url: str | None = Field(
        default=None, pattern=URL, description="URL of DynamoDB, if it is not AWS's own"
    )
    region: str | None = Field(
        default=None, min_length=1, description="AWS region; by default the AWS SDK's"
    )
    batch_writes: bool = Field(
        default=True,
        description="Whether claims, progress and outcomes that wait at the same moment share a"
        " call (PartiQL, 25 at most), which takes less CPU; off for emulators such as moto",
    )
    drain_timeout: Duration = Field(
        default=25.0, le=DAY, description="Time that running handlers have to finish after SIGTERM"
    )
    exit_timeout: Duration = Field(
        default=5.0, le=3600, description="Time that exit hooks (`atexit`) may take at the end"
    )
    tenant_concurrency: int | None = Field(
        default=None,
        ge=1,
        description="Maximum number of requests of one tenant that run at once; by default there"
        " is no maximum",
    )
    push: Literal["apigateway", "log", "off"] = Field(
        default="apigateway",
        description="Whether connections are notified: `apigateway` posts through API Gateway,"
        " `log` logs what it would post, `off` sends nothing",
    )
    push_endpoint: str | None = Field(
        default=None,
        pattern=PUSH_ENDPOINT,
        description="URL of the management API that everything is posted to, whatever endpoint a"
        " connection has, such as `https://abc123.execute-api.eu-west-1.amazonaws.com/prod`",
    )
    schedules: Schedules = Field(
        default={},
        description="Schedules, by name, as tables `[schedules.NAME]` (scheduling.md lists their"
        " options); as JSON in the variable",
    )
    actions: Actions = Field(
        default={},
        description="Limits of single actions, which override those of `@handler`; in a file under"
        " `[actions.NAME]`, in the variable as `NAME.rate_limit=100/m, NAME.max_concurrency=3`",
    )
    table_names: TableNameSettings = TableNameSettings()
    poll: PollSettings = PollSettings()
    handler: HandlerSettings = HandlerSettings()
    presence: PresenceSettings = PresenceSettings()
    rescue: RescueSettings = RescueSettings()
    reaper: ReaperSettings = ReaperSettings()
    depth: DepthSettings = DepthSettings()
    pause: PauseSettings = PauseSettings()
    retention: RetentionSettings = RetentionSettings()
    notifier: NotifierSettings = NotifierSettings()
    http: HttpSettings = HttpSettings()
    log: LogSettings = LogSettings()

    @field_validator("table_names")
    @classmethod
    def _different(cls, names: TableNameSettings, info: ValidationInfo) -> TableNameSettings:
        """Refuse one name for two tables, beside the faults of other settings."""
        if "table_prefix" in info.data:
            try:
                TableNames.from_prefix(info.data["table_prefix"], names.given)
            except ValidationError as error:
                raise ValueError(error.message) from error
        return names

    @property
    def tables(self) -> TableNames:
        """The full names of the tables."""
        return TableNames.from_prefix(self.table_prefix, self.table_names.given)

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
        # load_settings passes the values of the file as arguments. The environment overrides them.
        return FilteredEnvironment(settings_cls), init_settings
