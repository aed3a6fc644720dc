"""The handlers that are installed, found through entry points."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points, packages_distributions
from typing import Any, Final

from streamer_worker.errors import HandlerLoadError
from streamer_worker.handlers.definition import (
    Handler,
    HandlerGroup,
    Middleware,
    check_middleware,
)
from streamer_worker.sanitize import message_of, sanitized

GROUP: Final = "streamer_worker.handlers"
MIDDLEWARE_GROUP: Final = "streamer_worker.middleware"
_HEADLINE: Final = "handlers cannot be loaded:"

Registry = Mapping[str, Handler]


def load_handlers(
    found: Iterable[EntryPoint] | None = None, around: Iterable[EntryPoint] | None = None
) -> Registry:
    """Import every plugin and return the handlers by action, the worker's middleware around
    their group's.

    Entry points name a handler or a HandlerGroup; those for middleware are taken in the order
    of their names. Raises HandlerLoadError, naming distribution and entry point, for each
    plugin that cannot be imported, is no handler, has a signature that makes no sense, or
    claims an action that another has.
    """
    faults: list[str] = []
    entries = _listed(found, GROUP)
    middleware = _load_middleware(_listed(around, MIDDLEWARE_GROUP), faults)
    handlers: dict[str, Handler] = {}
    owners: dict[str, str] = {}
    for entry in entries:
        where = _where(entry)
        for each in _load_entry(entry, entries, faults):
            made = _with_middleware(each, middleware, distribution=_distribution(entry))
            if each.action in handlers:
                faults.append(
                    f"action {each.action!r} is claimed twice: by {owners[each.action]}"
                    f" and by {where}{_module_hint(entry, entries)}"
                )
                continue
            faults += [f"{where}: {fault}" for fault in _faults(made)]
            handlers[each.action] = made
            owners[each.action] = where
    if faults:
        raise HandlerLoadError(_HEADLINE, faults)
    return handlers


def registry(
    given: Iterable[Handler | HandlerGroup[Any]], middleware: Iterable[Middleware] = ()
) -> Registry:
    """Return handlers by action, for a worker whose handlers are at hand.

    Raises HandlerLoadError as load_handlers does.
    """
    middleware = tuple(middleware)
    handlers: dict[str, Handler] = {}
    faults: list[str] = []
    for each in given:
        for found in _handlers_of(each):
            made = _with_middleware(found, middleware)
            if made.action in handlers:
                faults.append(f"action {made.action!r} is claimed twice")
            faults += _faults(made)
            handlers[made.action] = made
    if faults:
        raise HandlerLoadError(_HEADLINE, faults)
    return handlers


def _load_entry(entry: EntryPoint, entries: list[EntryPoint], faults: list[str]) -> list[Handler]:
    try:
        return _handlers_of(entry.load())
    except BaseException as error:  # noqa: BLE001  a plugin may do anything
        faults.append(f"{_where(entry)}: {_text(error)}{_module_hint(entry, entries)}")
        return []


def _load_middleware(entries: list[EntryPoint], faults: list[str]) -> tuple[Middleware, ...]:
    loaded: list[Middleware] = []
    for entry in entries:
        try:
            each = entry.load()
            check_middleware(each)
        except BaseException as error:  # noqa: BLE001  a plugin may do anything
            faults.append(f"{_where(entry)}: {_text(error)}{_module_hint(entry, entries)}")
        else:
            loaded.append(each)
    return tuple(loaded)


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {sanitized(message_of(error))}"


def _module_hint(entry: EntryPoint, entries: list[EntryPoint]) -> str:
    """Return what is added to a fault if another distribution has a module of the same name:
    Python imports one of the two for both.
    """
    name = entry.module.partition(".")[0]
    if entry.dist is None or getattr(sys.modules.get(name), "__file__", None) is None:
        return ""  # it cannot be found, or it is a namespace, which several may share
    owners = {entry.dist.name, *packages_distributions().get(name, ())}
    owners |= {
        each.dist.name
        for each in entries
        if each.dist is not None and each.module.partition(".")[0] == name
    }
    if len(owners) == 1:
        return ""
    return (
        f"; the distributions {', '.join(sorted(owners))} have a module {name!r} each, and Python"
        f" imports only {sys.modules[name].__file__}: rename one"
    )


def _handlers_of(loaded: object) -> list[Handler]:
    match loaded:
        case Handler():
            return [loaded]
        case HandlerGroup() if loaded.handlers:
            return list(loaded.handlers)
        case HandlerGroup():
            raise TypeError("it is a HandlerGroup without handlers")
    raise TypeError(
        f"it is a {type(loaded).__name__}, not a function under @handler or a HandlerGroup"
    )


def _faults(each: Handler) -> list[str]:
    """Return what is wrong with a handler's signature, or with where it is."""
    who = f"handler {getattr(each.function, '__qualname__', each.function)} of {each.action!r}"
    found = []
    try:
        _ = each.schema
    except TypeError as error:
        found.append(f"{who}: {sanitized(message_of(error))}")
    except BaseException as error:  # noqa: BLE001  an annotation may be any class of a plugin
        found.append(f"{who}: {_text(error)}")
    if each.process and (why := not_importable(each.function)) is not None:
        found.append(f"{who} cannot run in a process: {why}")
    return found


def _with_middleware(
    each: Handler, around: tuple[Middleware, ...], *, distribution: str | None = None
) -> Handler:
    """Return it with its middleware; what it has from an earlier time stays."""
    inner = each.middleware or (() if each.group is None else each.group.middleware)
    return replace(
        each,
        middleware=(*around, *inner),
        distribution=each.distribution if distribution is None else distribution,
    )


def _listed(given: Iterable[EntryPoint] | None, group: str) -> list[EntryPoint]:
    return sorted(entry_points(group=group) if given is None else given, key=_order)


def _order(entry: EntryPoint) -> tuple[str, str]:
    return entry.name, _where(entry)


def _distribution(entry: EntryPoint) -> str | None:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else None


def _where(entry: EntryPoint) -> str:
    distribution = entry.dist.name if entry.dist is not None else "unknown distribution"
    return f"{distribution} ({entry.name} = {entry.value})"


def not_importable(function: Callable[..., Any]) -> str | None:
    """Return why a child could not find the function; None when it can."""
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None)
    if module is None or name is None:
        return "it has no module and name to be found by"
    if module == "__main__":
        return "it is defined in the program itself, not in a module"
    if "<" in name or "." in name:
        return "it does not stand at the top level of its module"
    if module not in sys.modules:
        return f"its module {module} is not imported"
    found = getattr(sys.modules[module], name, None)
    if getattr(found, "function", found) is not function:
        return f"{module}.{name} is something else"
    return None
