"""Settings: one frozen model per component, read once from the environment and a TOML file.

A field `interval` of the component `reaper` is `STREAMER_REAPER_INTERVAL` in the environment
and `interval` under `[reaper]` in the file. The environment wins.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings.sources import EnvSettingsSource

from streamer_worker.errors import SettingsError

PREFIX = "STREAMER_"
CONFIG_VARIABLE = "STREAMER_CONFIG"
_DAY = 86400.0
_BEATS_PER_LEASE = 3
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": _DAY}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhd]))+", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])", re.ASCII)
# Kubernetes and Docker links name a service "streamer…" in these shapes.
_SERVICE_LINK = re.compile(
    r"STREAMER_(?:\w+_)?"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)_(?:PROTO|PORT|ADDR))"
)
# These names are links only when their value is one: STREAMER_HTTP_PORT is also a setting.
_PORT_LINK = re.compile(r"STREAMER_(?:\w+_)?PORT(?:_\d+_(?:TCP|UDP|SCTP))?")
_LINK_VALUE = re.compile(r"(?:tcp|udp|sctp)://", re.IGNORECASE)
_CREDENTIALS = re.compile(r"//[^/@]*@")
_SHOWN_CHARS = 100


def seconds(value: object) -> object:
    """Read `90`, `"90"`, `"90s"`, `"1.5h"` or `"2h10m"` as seconds; pydantic judges the rest."""
    if isinstance(value, str):
        text = value.strip().lower()
        if _DURATION.fullmatch(text):
            return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    return value


Duration = Annotated[float, BeforeValidator(seconds), Field(gt=0, allow_inf_nan=False)]


HostPattern = Annotated[
    str, Field(pattern=r"^(\*|[A-Za-z0-9-]+)(\.(\*|[A-Za-z0-9-]+))*(:[0-9]{1,5})?$")
]


def _parts(text: str) -> list[str]:
    return [each for part in text.split(",") if (each := part.strip())]


def _listed(value: object) -> object:
    """Read `a.example, b.example` as a list; pydantic judges the rest."""
    return _parts(value) if isinstance(value, str) else value


Level = Literal["debug", "info", "warning", "error"]
# At lower levels these tell what is sent, credentials among it.
QUIET = ("aiobotocore", "aiohttp", "botocore", "urllib3")


def _levels(value: object) -> object:
    """Read `my.plugin=debug, asyncio=error` as a mapping; pydantic judges the rest."""
    if isinstance(value, str):
        pairs = (each.partition("=") for each in _parts(value))
        return {name.strip(): level.strip().lower() for name, _, level in pairs}
    return value


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

    fastest: Duration = Field(default=0.05, le=60, description="First pause after an empty poll")
    slowest: Duration = Field(default=0.5, le=600, description="Longest pause between polls")
    steal_after: Duration = Field(
        default=0.6, le=60, description="How long another worker's own request is left to it"
    )
    unknown_after: Duration = Field(
        default=60.0,
        le=_DAY,
        description="How long an action that no live worker lists may wait before it fails",
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.fastest > self.slowest:
            raise ValueError("poll.fastest is longer than poll.slowest")
        return self


class HandlerSettings(_Component):
    """What handlers may take; `@handler` can say otherwise."""

    timeout: Duration = Field(default=900.0, le=30 * _DAY, description="Longest attempt")
    cancel_grace: Duration = Field(
        default=5.0, le=3600, description="How long a handler that is told to end may take"
    )
    threads: int = Field(default=32, ge=1, le=1000, description="Synchronous handlers run at once")
    processes: int = Field(
        default_factory=lambda: len(os.sched_getaffinity(0)),
        ge=1,
        le=1000,
        description="Handlers with process=True run at once; as many as there are CPUs",
    )


class PresenceSettings(_Component):
    """The worker's row in the fleet."""

    heartbeat: Duration = Field(default=4.0, ge=0.1, le=600, description="Time between beats")
    lease: Duration = Field(
        default=16.0,
        le=_DAY,
        description="Silence after which a worker is taken for dead; at least three heartbeats",
    )
    foreign_timeout: Duration | None = Field(
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

    hosts: Annotated[tuple[HostPattern, ...], NoDecode, BeforeValidator(_listed)] = Field(
        default=("*.execute-api.*.amazonaws.com", "*.execute-api.*.amazonaws.com.cn"),
        description="Hosts that may be called; a * is one label of the name",
    )
    timeout: Duration = Field(default=3.0, le=60, description="How long a post may take")
    at_once: int = Field(default=100, ge=1, le=1000, description="Posts at once")
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
        Mapping[str, Level], NoDecode, BeforeValidator(_levels), AfterValidator(_not_too_loud)
    ] = Field(default={}, description="Least levels of loggers by name: `my.plugin=debug`")
    format: Literal["auto", "json", "console"] = Field(
        default="auto", description="auto: console on a terminal, else JSON"
    )


class _FilteredEnvironment(EnvSettingsSource):
    """The settings that the environment holds. What it holds beside them is refused elsewhere."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        known = {variable_of(each) for each in setting_names()}
        return {
            name.lower(): value
            for name, value in _meant_as_settings(os.environ)
            if name in known and value
        }


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
    tenant_concurrency: int | None = Field(
        default=None, ge=1, description="Requests of one tenant run at once by a worker"
    )
    push: Literal["apigateway", "off"] = Field(
        default="apigateway", description="How connections are told: through API Gateway, or not"
    )
    poll: PollSettings = PollSettings()
    handler: HandlerSettings = HandlerSettings()
    presence: PresenceSettings = PresenceSettings()
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
        return _FilteredEnvironment(settings_cls), init_settings


def load_settings(path: Path | None = None) -> Settings:
    """Read the settings. Raises SettingsError with every fault, the nearest names included."""
    file, faults = ({}, []) if path is None else _read_file(path)
    faults += _unknown_variables()
    # The base class takes arguments of its own, whose names begin with an underscore.
    faults += [_unknown(name, setting_names()) for name in file if name.startswith("_")]
    try:
        settings = Settings(**{name: file[name] for name in file if not name.startswith("_")})
    except ValidationError as error:
        faults += [_words(each) for each in error.errors()]
    if faults:
        raise SettingsError("the settings are not valid:", faults)
    return settings


def setting_names() -> list[str]:
    """Return every setting as `concurrency` or `reaper.interval`."""
    return list(_names(Settings))


def value_text(value: object) -> str:
    """Return a setting's value in words that the setting takes; nothing for None."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float():
            return _duration_text(value)  # all that are not whole numbers are durations
        case Mapping():
            return ", ".join(f"{key}={each}" for key, each in value.items())
        case tuple():
            return ", ".join(map(str, value))
    return str(value)


def _duration_text(value: float) -> str:
    milliseconds = round(value * 1000)
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, milliseconds = divmod(milliseconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


@dataclass(frozen=True, slots=True)
class Effective:
    """A setting in force; `source`: default, environment or file. Passwords are masked."""

    name: str
    value: Any
    source: str

    @property
    def text(self) -> str:
        return value_text(self.value)


def effective_settings(path: Path | None = None) -> list[Effective]:
    """Return all settings, in order. Raises SettingsError."""
    settings = load_settings(path)
    file = {} if path is None else _read_file(path)[0]
    given = {name for name, value in _meant_as_settings(os.environ) if value}
    found = []
    for name in setting_names():
        value: Any = settings
        in_file: Any = file
        for part in name.split("."):
            value = getattr(value, part)
            in_file = in_file.get(part) if isinstance(in_file, dict) else None
        source = "default" if in_file is None else "file"
        if variable_of(name) in given:
            source = "environment"
        if isinstance(value, str):
            value = _CREDENTIALS.sub("//***@", value)
        found.append(Effective(name, value, source))
    return found


def _names(model: type[BaseModel], before: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _names(field.annotation, f"{name}.")
        else:
            yield before + name


def variable_of(name: str) -> str:
    return PREFIX + name.replace(".", "_").upper()


def _meant_as_settings(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield what is not there for another purpose, under its name in upper case."""
    for given, value in environment.items():
        name = given.upper()
        if not name.startswith(PREFIX) or name.startswith(f"{PREFIX}TEST_"):
            continue
        if name != CONFIG_VARIABLE and not _is_service_link(name, value):
            yield name, value


def _is_service_link(name: str, value: str) -> bool:
    if _PORT_LINK.fullmatch(name) and _LINK_VALUE.match(value):
        return True
    return _SERVICE_LINK.fullmatch(name) is not None


def _unknown_variables() -> list[str]:
    known = [variable_of(each) for each in setting_names()]
    return [
        _unknown(name, known) for name, _ in _meant_as_settings(os.environ) if name not in known
    ]


def _read_file(path: Path) -> tuple[dict[str, Any], list[str]]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")), []
    except OSError as error:
        return {}, [f"{path}: {error.strerror}"]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return {}, [f"{path}: not TOML: {error}"]


def _words(fault: Any) -> str:
    name = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return _unknown(name, setting_names())
    # A fault inside of a list or a mapping is the setting's.
    name = next((each for each in setting_names() if name.startswith(f"{each}.")), name)
    if fault["type"] == "value_error":  # a contradiction between two settings
        return str(fault["ctx"]["error"])
    return f"{name} ({variable_of(name)}): {fault['msg']}, not {_shown(fault['input'])}"


def _shown(value: object) -> str:
    text = _CREDENTIALS.sub("//***@", repr(value))
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"


def _unknown(name: str, known: list[str]) -> str:
    by_letters = {each.lower(): each for each in known}
    # A component's name alone is nearest to its own settings.
    begun = [each for each in by_letters if each.startswith(name.lower())]
    nearest = difflib.get_close_matches(name.lower(), begun or by_letters, n=1, cutoff=0.0)
    return f"{name}: no such setting; the nearest is {by_letters[nearest[0]]}"
