from __future__ import annotations

from typing import Final

from streamer_worker.cli.options import ConfigOption, JsonOption
from streamer_worker.cli.output import print_json, print_table

_COLUMNS = ("setting", "value", "from")
_CELL_CHARS: Final = 2000  # a list may be long


def config(*, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Print the value of each setting, and its source: default, file or environment.

    Passwords in URLs are masked. JSON has durations in seconds. The environment variable of
    `reaper.interval` is STREAMER_REAPER_INTERVAL; docs/settings.md lists all of them.

    Example: `STREAMER_CONCURRENCY=8 streamer-worker config`
    """
    from streamer_worker.settings import effective_settings

    settings = effective_settings(config)
    if as_json:
        print_json(
            {setting.name: {"value": setting.value, "from": setting.source} for setting in settings}
        )
    else:
        rows = ((setting.name, setting.text, setting.source) for setting in settings)
        print_table(_COLUMNS, rows, cell_chars=_CELL_CHARS)
