"""The settings of the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from streamer_worker.settings.component import Component
from streamer_worker.settings.parsing import as_levels

Level = Literal["debug", "info", "warning", "error"]
# Below the level warning these loggers log requests, with credentials in them.
SENSITIVE_LOGGERS = ("aiobotocore", "aiohttp", "botocore", "urllib3")


def _without_sensitive_levels(levels: Mapping[str, str]) -> Mapping[str, str]:
    for name, level in levels.items():
        if name.partition(".")[0] in SENSITIVE_LOGGERS and level in {"debug", "info"}:
            raise ValueError(
                f"log.levels (STREAMER_LOG_LEVELS): {name} logs credentials at level {level};"
                " set it to warning or error"
            )
    return levels


class LogSettings(Component):
    """What the worker logs, and in which format."""

    level: Level = Field(default="info", description="Lowest level that is logged")
    levels: Annotated[
        Mapping[str, Level],
        NoDecode,
        BeforeValidator(as_levels),
        AfterValidator(_without_sensitive_levels),
    ] = Field(default={}, description="Lowest level of single loggers, by name: `my.plugin=debug`")
    format: Literal["auto", "json", "console"] = Field(
        default="auto",
        description="Format of log lines; `auto` is `console` on a terminal and `json` elsewhere",
    )
