from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from streamer_store import InvalidInput
from streamer_store.release import package_version
from streamer_worker.cli.addresses import configured_address
from streamer_worker.cli.options import ConfigOption, JsonOption
from streamer_worker.cli.output import print_json, print_table

if TYPE_CHECKING:
    from streamer_worker.settings import EffectiveSetting, Settings

_INSTALLED: Final = "installed"
_COLUMNS = ("setting", "value", "from")
_CELL_CHARS: Final = 2000  # a list may be long


def config(*, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Print the value of each setting, and its source: default, file or environment.

    Where the settings do not name the endpoint or the region, the AWS settings do, and the source
    is their variable or profile. Tables without a name of their own get it from `table_prefix`.
    `check` names the account, too. At the end are the versions of
    this program and of the packages with handlers.

    Passwords in URLs are masked. JSON has durations in seconds. The environment variable of
    `reaper.interval` is STREAMER_REAPER_INTERVAL; docs/settings.md lists all of them.

    Example: `STREAMER_CONCURRENCY=8 streamer-worker config`
    """
    from streamer_worker.settings import load_settings

    settings = load_settings(config)
    shown = [*_in_force(settings, config), *_installed()]
    if as_json:
        print_json({row.name: {"value": row.value, "from": row.source} for row in shown})
    else:
        rows = ((row.name, row.text, row.source) for row in shown)
        print_table(_COLUMNS, rows, cell_chars=_CELL_CHARS)


def _in_force(settings: Settings, config: Path | None) -> Iterator[EffectiveSetting]:
    """Yield the settings. Those that are not set have the value that holds, and its source.

    It is an AWS setting for the endpoint and the region, and the prefix for the name of a table.
    """
    from streamer_store.target import without_password
    from streamer_worker.settings import EffectiveSetting, effective_settings

    elsewhere: dict[str, tuple[str | None, str]] = {
        f"table_names.{table}": (name, "table_prefix")
        for table, name in settings.tables.as_dict().items()
    }
    with suppress(InvalidInput):  # `check` says what is wrong with the AWS settings
        address = configured_address(settings)
        elsewhere |= {"endpoint_url": address.endpoint, "region": address.region}
    for setting in effective_settings(config):
        value, source = elsewhere.get(setting.name, (None, ""))
        if setting.value is None and value is not None:
            yield EffectiveSetting(setting.name, without_password(value), source)
        else:
            yield setting


def _installed() -> Iterator[EffectiveSetting]:
    """Yield the versions of this program and of the packages with handlers."""
    from streamer_worker.handlers.registry import installed_distributions
    from streamer_worker.settings import EffectiveSetting

    yield EffectiveSetting("release", package_version("streamer-worker"), _INSTALLED)
    yield EffectiveSetting("handlers", installed_distributions(), _INSTALLED)
