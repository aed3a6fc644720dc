"""Settings: one frozen model per component, read once from the environment and a TOML file.

The field `interval` of the component `reaper` is `STREAMER_REAPER_INTERVAL` in the environment
and `interval` under `[reaper]` in the file. The environment overrides the file.
"""

from streamer_worker.settings.actions import ActionSettings
from streamer_worker.settings.components import (
    DepthSettings,
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
from streamer_worker.settings.environment import CONFIG_VARIABLE, variable_of
from streamer_worker.settings.loading import (
    EffectiveSetting,
    effective_settings,
    load_settings,
    setting_names,
    store_arguments,
)
from streamer_worker.settings.log import SENSITIVE_LOGGERS, LogSettings
from streamer_worker.settings.models import Settings
from streamer_worker.settings.parsing import seconds, value_text
from streamer_worker.settings.schedules import ScheduleSettings
from streamer_worker.settings.table_names import TableNameSettings

__all__ = [
    "CONFIG_VARIABLE",
    "SENSITIVE_LOGGERS",
    "ActionSettings",
    "DepthSettings",
    "EffectiveSetting",
    "HandlerSettings",
    "HttpSettings",
    "LogSettings",
    "NotifierSettings",
    "PauseSettings",
    "PollSettings",
    "PresenceSettings",
    "ReaperSettings",
    "RescueSettings",
    "RetentionSettings",
    "ScheduleSettings",
    "Settings",
    "TableNameSettings",
    "effective_settings",
    "load_settings",
    "seconds",
    "setting_names",
    "store_arguments",
    "value_text",
    "variable_of",
]
