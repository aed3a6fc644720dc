"""The handlers that are installed, found through entry points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points

from streamer_worker.errors import HandlerLoadError
from streamer_worker.handlers.definition import Handler

GROUP = "streamer_worker.handlers"

Registry = Mapping[str, Handler]


def load_handlers(found: Iterable[EntryPoint] | None = None) -> Registry:
    """Import every plugin and return the handlers by action.

    Raises HandlerLoadError, naming distribution and entry point, for each plugin that cannot
    be imported, is not a handler, or claims an action that another has.
    """
    handlers: dict[str, Handler] = {}
    owners: dict[str, str] = {}
    faults: list[str] = []
    for entry in sorted(entry_points(group=GROUP) if found is None else found, key=_where):
        try:
            loaded = _load(entry)
        except (Exception, SystemExit) as error:  # noqa: BLE001  a plugin may do anything
            faults.append(f"{_where(entry)}: {type(error).__name__}: {error}")
            continue
        if loaded.action in handlers:
            faults.append(
                f"action {loaded.action!r} is claimed twice: by {owners[loaded.action]}"
                f" and by {_where(entry)}"
            )
            continue
        handlers[loaded.action] = loaded
        owners[loaded.action] = _where(entry)
    if faults:
        raise HandlerLoadError("handlers cannot be loaded:", faults)
    return handlers


def registry(handlers: Iterable[Handler]) -> Registry:
    """Return handlers by action, for a worker whose handlers are at hand."""
    return {each.action: each for each in handlers}


def _load(entry: EntryPoint) -> Handler:
    loaded = entry.load()
    if not isinstance(loaded, Handler):
        raise TypeError(f"it is a {type(loaded).__name__}, not a function under @handler")
    return loaded


def _where(entry: EntryPoint) -> str:
    distribution = entry.dist.name if entry.dist is not None else "unknown distribution"
    return f"{distribution} ({entry.name} = {entry.value})"
