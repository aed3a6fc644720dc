"""Handlers that are named on the command line, as `module:name`, without an installed package."""

from __future__ import annotations

import difflib
import sys
import traceback
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import FunctionType, ModuleType
from typing import Any

from streamer_worker.handlers.definition import Handler, HandlerGroup
from streamer_worker.sanitize import message_of, named_message, sanitized


class ReferenceInvalid(Exception):
    """A reference names no handlers. The message is one line for the user."""


def add_to_path(folder: Path) -> None:
    """Let Python import modules from this folder first. Children with `process=True` do so too.

    Raises ReferenceInvalid if there is no such folder.
    """
    if not folder.is_dir():
        raise ReferenceInvalid(f"--app-dir: there is no directory {folder}")
    path = str(folder.resolve())
    if path in sys.path:
        sys.path.remove(path)
    sys.path.insert(0, path)


def load_reference(reference: str) -> list[Handler]:
    """Import the module of `module:name` or `module`, and return the handlers that it names.

    The name is that of a handler or of a HandlerGroup. A module alone stands for all handlers and
    groups among its names.

    Raises ReferenceInvalid if the module cannot be imported, or has no such handler.
    """
    name, colon, attribute = reference.partition(":")
    module = _import(name)
    try:
        handlers = _handlers_in(module) if not colon else handlers_of(_attribute(module, attribute))
    except TypeError as error:
        raise ReferenceInvalid(f"{reference}: {message_of(error)}") from error
    if not handlers:
        raise ReferenceInvalid(
            f"{name}: no function in {_shown(module.__file__)} has the decorator @handler"
        )
    return handlers


def origin_of(handler: Handler) -> str:
    """Return the module of the handler's function and its file, where packages have a version."""
    name: str = getattr(handler.function, "__module__", None) or "unknown"
    return f"{name} {_shown(getattr(sys.modules.get(name), '__file__', None))}".rstrip()


def handlers_of(definition: object) -> list[Handler]:
    """Return the handlers of a handler or a HandlerGroup. Raises TypeError for anything else."""
    match definition:
        case Handler():
            return [definition]
        case HandlerGroup() if definition.handlers:
            return list(definition.handlers)
        case HandlerGroup():
            raise TypeError("it is a HandlerGroup without handlers")
        case FunctionType():
            raise TypeError("it is a function without the decorator @handler")
    raise TypeError(
        f"it is a {type(definition).__name__}, not a function under @handler or a HandlerGroup"
    )


def _handlers_in(module: ModuleType) -> list[Handler]:
    definitions = [value for value in vars(module).values() if _is_definition(value)]
    handlers: list[Handler] = []
    for handler in (each for found in definitions for each in handlers_of(found)):
        if not any(handler is known for known in handlers):
            handlers.append(handler)
    return handlers


def _is_definition(value: object) -> bool:
    return isinstance(value, Handler) or (isinstance(value, HandlerGroup) and bool(value.handlers))


def _attribute(module: ModuleType, name: str) -> object:
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            known = [other for other, value in vars(module).items() if _is_definition(value)]
            raise ReferenceInvalid(
                f"{module.__name__}:{name}: {_shown(module.__file__)} has no name {part!r}"
                f"{_nearest(part, known)}"
            ) from error
    return found


def _import(name: str) -> ModuleType:
    if name.endswith(".py") or not _is_module_name(name):
        module = name.removesuffix(".py").strip("./").replace("/", ".")
        suggestion = f": write {module!r}" if _is_module_name(module) else ""
        raise ReferenceInvalid(f"{name!r} is not the name of a module{suggestion}")
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ReferenceInvalid(_import_fault(name, error)) from error  # a module that it needs
        parent, _, missing = error.name.rpartition(".")
        places = list(getattr(sys.modules[parent], "__path__", ())) if parent else sys.path[:1]
        known = [info.name for info in iter_modules(places)]
        where = f"in {', '.join(places)}" if places else f"because {parent} is not a package"
        raise ReferenceInvalid(
            f"there is no module {error.name!r} {where}{_nearest(missing, known)}"
        ) from error
    except BaseException as error:
        raise ReferenceInvalid(_import_fault(name, error)) from error


def _import_fault(name: str, error: BaseException) -> str:
    """Return the fault with the file and the line of the user's code that caused it."""
    if isinstance(error, SyntaxError):
        place, text = f"{_shown(error.filename)}, line {error.lineno}", error.msg
    else:
        own = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if not frame.filename.startswith("<") and "importlib" not in frame.filename
        ][1:]  # the first is ours
        local = [frame for frame in own if Path(frame.filename).is_relative_to(sys.path[0])] or own
        place = f"{_shown(local[-1].filename)}, line {local[-1].lineno}" if local else "its import"
        text = named_message(error)
    return f"{name} cannot be imported: {place}: {sanitized(text)}"


def _is_module_name(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def _nearest(name: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""


def _shown(file: str | None) -> str:
    """Return the path of a file, relative to the current directory where it is inside."""
    if file is None:
        return ""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
