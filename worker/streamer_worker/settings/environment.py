"""What of the environment is meant as settings."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping

from pydantic import BaseModel
from pydantic_settings.sources import EnvSettingsSource

PREFIX = "STREAMER_"
CONFIG_VARIABLE = "STREAMER_CONFIG"
# Kubernetes and Docker links name a service "streamer…" in these shapes.
_SERVICE_LINK = re.compile(
    r"STREAMER_(?:\w+_)?"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)_(?:PROTO|PORT|ADDR))"
)
# These names are links only when their value is one: STREAMER_HTTP_PORT is also a setting.
_PORT_LINK = re.compile(r"STREAMER_(?:\w+_)?PORT(?:_\d+_(?:TCP|UDP|SCTP))?")
_LINK_VALUE = re.compile(r"(?:tcp|udp|sctp)://", re.IGNORECASE)


class FilteredEnvironment(EnvSettingsSource):
    """The settings that the environment holds. What it holds beside them is refused elsewhere."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        known = {variable_of(each) for each in names_of(self.settings_cls)}
        return {
            name.lower(): value
            for name, value in meant_as_settings(os.environ)
            if name in known and value
        }


def names_of(model: type[BaseModel], before: str = "") -> Iterator[str]:
    """Yield every setting as `concurrency` or `reaper.interval`."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from names_of(field.annotation, f"{name}.")
        else:
            yield before + name


def variable_of(name: str) -> str:
    return PREFIX + name.replace(".", "_").upper()


def meant_as_settings(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
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
