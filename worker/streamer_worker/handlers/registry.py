"""Finds the installed handlers through entry points, and checks them."""

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
from streamer_worker.handlers.references import (
    ReferenceInvalid,
    handlers_of,
    load_reference,
    origin_of,
)
from streamer_worker.sanitize import message_of, named_message, sanitized

GROUP: Final = "streamer_worker.handlers"
MIDDLEWARE_GROUP: Final = "streamer_worker.middleware"
NO_HANDLERS: Final = "no handlers are installed"
INSTALL_HANDLERS: Final = (
    f"install a package that has entry points in the group {GROUP}, or name a handler with"
    " --handlers MODULE:NAME"
)
_HEADLINE: Final = "handlers cannot be loaded:"

Registry = Mapping[str, Handler]


def load_handlers(
    handler_entries: Iterable[EntryPoint] | None = None,
    middleware_entries: Iterable[EntryPoint] | None = None,
    *,
    references: Iterable[str] = (),
) -> Registry:
    """Import every plugin, and return the handlers by action.

    Without arguments the installed entry points are used. An entry point for handlers names a
    handler or a HandlerGroup. Middleware is called in the order of its entry points' names, and
    outside the middleware of groups.

    references: `module:name` or `module` of handlers that no entry point names. They are added.
    A handler that is named twice counts once.

    Raises HandlerLoadError with the distribution and the entry point of each plugin that cannot
    be imported, is no handler, has a wrong signature or an option that cannot be read, or claims
    an action of another plugin.
    """
    faults: list[str] = []
    entries = _sorted_entries(handler_entries, GROUP)
    middleware = _load_middleware(_sorted_entries(middleware_entries, MIDDLEWARE_GROUP), faults)
    handlers: dict[str, Handler] = {}
    owners: dict[str, str] = {}
    for entry in entries:
        where = _where(entry)
        for loaded in _load_entry(entry, entries, faults):
            handler = _with_middleware(loaded, middleware, distribution=_distribution(entry))
            if handler.action in handlers:
                faults.append(
                    f"action {handler.action!r} is claimed twice: by {owners[handler.action]}"
                    f" and by {where}{_module_hint(entry, entries)}"
                )
                continue
            faults += [f"{where}: {fault}" for fault in _faults(handler)]
            handlers[handler.action] = handler
            owners[handler.action] = where
    for reference in references:
        where = f"--handlers {reference}"
        for loaded in _load_reference(reference, faults):
            handler = _with_middleware(loaded, middleware, distribution=origin_of(loaded))
            known = handlers.setdefault(handler.action, handler)
            owner = owners.setdefault(handler.action, where)
            if known is handler:
                faults += [f"{where}: {fault}" for fault in _faults(handler)]
            elif known.function is not handler.function:
                faults.append(
                    f"action {handler.action!r} is claimed twice: by {owner} and by {where}"
                )
    if faults:
        raise HandlerLoadError(_HEADLINE, faults, loaded=handlers)
    return handlers


def registry(
    definitions: Iterable[Handler | HandlerGroup[Any]], middleware: Iterable[Middleware] = ()
) -> Registry:
    """Return the given handlers by action, with this middleware outside that of their groups.

    Raises HandlerLoadError as load_handlers does.
    """
    middleware = tuple(middleware)
    handlers: dict[str, Handler] = {}
    faults: list[str] = []
    for definition in definitions:
        for defined in handlers_of(definition):
            handler = _with_middleware(defined, middleware)
            if handler.action in handlers:
                faults.append(f"action {handler.action!r} is claimed twice")
            faults += _faults(handler)
            handlers[handler.action] = handler
    if faults:
        raise HandlerLoadError(_HEADLINE, faults)
    return handlers


def _load_entry(entry: EntryPoint, entries: list[EntryPoint], faults: list[str]) -> list[Handler]:
    try:
        return handlers_of(entry.load())
    except BaseException as error:  # noqa: BLE001  a plugin may do anything
        faults.append(
            f"{_where(entry)}: {sanitized(named_message(error))}{_module_hint(entry, entries)}"
        )
        return []


def _load_reference(reference: str, faults: list[str]) -> list[Handler]:
    try:
        return load_reference(reference)
    except ReferenceInvalid as error:
        faults.append(str(error))
        return []


def _load_middleware(entries: list[EntryPoint], faults: list[str]) -> tuple[Middleware, ...]:
    loaded: list[Middleware] = []
    for entry in entries:
        try:
            function = entry.load()
            check_middleware(function)
        except BaseException as error:  # noqa: BLE001  a plugin may do anything
            faults.append(
                f"{_where(entry)}: {sanitized(named_message(error))}{_module_hint(entry, entries)}"
            )
        else:
            loaded.append(function)
    return tuple(loaded)


def _module_hint(entry: EntryPoint, entries: list[EntryPoint]) -> str:
    """Return a hint for a fault if another distribution has a module of the same name, since
    Python imports only one of them. Empty if none has.
    """
    name = entry.module.partition(".")[0]
    if entry.dist is None or getattr(sys.modules.get(name), "__file__", None) is None:
        return ""  # not importable, or a namespace package, which distributions may share
    owners = {entry.dist.name, *packages_distributions().get(name, ())}
    owners |= {
        other.dist.name
        for other in entries
        if other.dist is not None and other.module.partition(".")[0] == name
    }
    if len(owners) == 1:
        return ""
    return (
        f"; the distributions {', '.join(sorted(owners))} have a module {name!r} each, and Python"
        f" imports only {sys.modules[name].__file__}: rename one"
    )


def _faults(handler: Handler) -> list[str]:
    """Return the faults of a handler's options and signature and, for one in a process, of its
    place.
    """
    name = getattr(handler.function, "__qualname__", handler.function)
    subject = f"handler {name} of {handler.action!r}"
    faults = [f"{subject}: {fault}" for fault in handler.faults]
    try:
        _ = handler.schema
    except TypeError as error:
        faults.append(f"{subject}: {sanitized(message_of(error))}")
    except BaseException as error:  # noqa: BLE001  an annotation may be any class of a plugin
        faults.append(f"{subject}: {sanitized(named_message(error))}")
    if handler.process and (reason := not_importable(handler.function)) is not None:
        faults.append(f"{subject} cannot run in a process: {reason}")
    return faults


def _with_middleware(
    handler: Handler, middleware: tuple[Middleware, ...], *, distribution: str | None = None
) -> Handler:
    """Return the handler with this middleware outside its own or that of its group."""
    group_middleware = () if handler.group is None else handler.group.middleware
    return replace(
        handler,
        middleware=(*middleware, *(handler.middleware or group_middleware)),
        distribution=handler.distribution if distribution is None else distribution,
    )


def _sorted_entries(entries: Iterable[EntryPoint] | None, group: str) -> list[EntryPoint]:
    return sorted(entry_points(group=group) if entries is None else entries, key=_sort_key)


def _sort_key(entry: EntryPoint) -> tuple[str, str]:
    return entry.name, _where(entry)


def distributions_of(registry: Registry) -> tuple[str, ...]:
    """Return the name and the version of each package that has handlers in it, sorted."""
    found = {handler.distribution for handler in registry.values() if handler.distribution}
    return tuple(sorted(found))


def installed_distributions() -> tuple[str, ...]:
    """Return the same of all installed plugins, without importing them."""
    found = {_distribution(entry) for entry in entry_points(group=GROUP)}
    return tuple(sorted(name for name in found if name))


def _distribution(entry: EntryPoint) -> str | None:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else None


def _where(entry: EntryPoint) -> str:
    distribution = entry.dist.name if entry.dist is not None else "unknown distribution"
    return f"{distribution} ({entry.name} = {entry.value})"


def not_importable(function: Callable[..., Any]) -> str | None:
    """Return why a child process cannot import the function; None if it can."""
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None)
    if module is None or name is None:
        return "it has no module or no name"
    if module == "__main__":
        return "it is defined in the program itself, not in a module"
    if "<" in name or "." in name:
        return "it is not at the top level of its module"
    if module not in sys.modules:
        return f"its module {module} is not imported"
    definition = getattr(sys.modules[module], name, None)
    if getattr(definition, "function", definition) is not function:
        return f"{module}.{name} is another object"
    return None
