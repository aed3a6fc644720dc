from __future__ import annotations

from typing import Final

from streamer_worker.cli.options import ConfigOption, JsonOption
from streamer_worker.cli.output import print_table, tell_json
from streamer_worker.settings import effective_settings

_COLUMNS = ("setting", "value", "from")
_CELL_CHARS: Final = 2000  # a list may be long


def config(*, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Print the settings in force, and where each comes from; passwords in URLs are masked.

    Times are in seconds in JSON. The names of the variables are in docs/settings.md:
    `reaper.interval` is STREAMER_REAPER_INTERVAL.

    Example: `STREAMER_CONCURRENCY=8 streamer-worker config`
    """
    found = effective_settings(config)
    if as_json:
        tell_json({each.name: {"value": each.value, "from": each.source} for each in found})
    else:
        rows = ((each.name, each.text, each.source) for each in found)
        print_table(_COLUMNS, rows, cell_chars=_CELL_CHARS)
