"""The names of settings, and the environment variables that set them."""

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
# Such a name is a link only if its value is a URL: STREAMER_HTTP_PORT is also a setting.
_PORT_LINK = re.compile(r"STREAMER_(?:\w+_)?PORT(?:_\d+_(?:TCP|UDP|SCTP))?")
_LINK_VALUE = re.compile(r"(?:tcp|udp|sctp)://", re.IGNORECASE)


class FilteredEnvironment(EnvSettingsSource):
    """Reads the known settings from the environment. `load_settings` refuses unknown names."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        known = {variable_of(name) for name in names_of(self.settings_cls)}
        return {
            name.lower(): value
            for name, value in settings_variables(os.environ)
            if name in known and value
        }


def names_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the name of every setting, such as `concurrency` or `reaper.interval`."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from names_of(field.annotation, f"{name}.")
        else:
            yield prefix + name


def variable_of(name: str) -> str:
    """Return the environment variable of a setting: STREAMER_REAPER_INTERVAL."""
    return PREFIX + name.replace(".", "_").upper()


def settings_variables(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the STREAMER_ variables that must be settings, with their names in upper case.

    Left out are STREAMER_TEST_ variables, STREAMER_CONFIG, and the links that Kubernetes and
    Docker set for a service whose name begins with `streamer`.
    """
    for variable, value in environment.items():
        name = variable.upper()
        if not name.startswith(PREFIX) or name.startswith(f"{PREFIX}TEST_"):
            continue
        if name != CONFIG_VARIABLE and not _is_service_link(name, value):
            yield name, value


def _is_service_link(name: str, value: str) -> bool:
    if _PORT_LINK.fullmatch(name) and _LINK_VALUE.match(value):
        return True
    return _SERVICE_LINK.fullmatch(name) is not None
