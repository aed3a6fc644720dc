"""The payload that a handler wants: the annotation of its first parameter."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from streamer_worker.handlers.context import Context, SyncContext

_METADATA: Final = "_metadata"
_FIELDS_SHOWN: Final = 20
_NO_OBJECTS: Final = frozenset({"array", "boolean", "integer", "null", "number", "string"})


class PayloadInvalid(Exception):
    """The payload does not fit. `fields` has a path and what is wrong there, for each fault."""

    def __init__(self, fields: tuple[tuple[str, str], ...]) -> None:
        told = "; ".join(f"{path}: {fault}" if path else fault for path, fault in fields)
        super().__init__(f"the payload does not fit: {told}")
        self.fields = fields

    @property
    def paths(self) -> tuple[str, ...]:
        """Where the faults are: names of fields, which unlike the rest may be logged."""
        return tuple(path for path, _ in self.fields)


class PayloadSchema:
    """What a payload must be. `annotation` is Any where the handler takes what comes."""

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation
        self._adapter: TypeAdapter[Any] | None = None
        if annotation is not Any:
            self._adapter = TypeAdapter(annotation)

    def parse(self, payload: Mapping[str, Any] | None) -> Any:
        """Return the payload as the annotation has it, without the router's `_metadata`.

        Raises PayloadInvalid, which shows no value of the payload.
        """
        given = dict(payload or {})
        if isinstance(given.get(_METADATA), Mapping):
            del given[_METADATA]
        if self._adapter is None:
            return given
        try:
            return self._adapter.validate_python(given)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False, include_context=False)
            raise PayloadInvalid(
                tuple((_path(each["loc"]), each["msg"]) for each in faults[:_FIELDS_SHOWN])
            ) from None

    def json_schema(self) -> dict[str, Any]:
        """Return JSON Schema. Raises PydanticUserError where the type has none."""
        return {"type": "object"} if self._adapter is None else self._adapter.json_schema()

    @property
    def name(self) -> str:
        if self._adapter is None:
            return "dict"
        if isinstance(self.annotation, type) and not typing.get_args(self.annotation):
            return self.annotation.__name__
        return str(self.annotation).replace("typing.", "")


def schema_of(function: Callable[..., Any]) -> PayloadSchema:
    """Read the annotations of a handler. Raises TypeError, saying what is wrong where."""
    first, second = _first_two(function)
    name = first.name
    annotation = _resolved(function, first)
    _check_context(function, second)
    if _origin(annotation) in {Context, SyncContext}:
        raise TypeError(f"the payload comes first, then the context; {name!r} is annotated as one")
    try:
        schema = PayloadSchema(annotation)
    except (PydanticUserError, TypeError, NameError) as error:
        raise TypeError(
            f"{name!r} is annotated with what pydantic cannot check: {_first_line(error)}"
        ) from error
    try:
        kind = schema.json_schema().get("type")
    except PydanticUserError:
        kind = None  # it can be checked, and not be told
    if kind in _NO_OBJECTS:
        raise TypeError(f"{name!r} is annotated as {schema.name}, but a payload is a mapping")
    return schema


def is_async(function: Callable[..., Any]) -> bool:
    """Whether a call of the function gives an awaitable.

    1. It is an async function, also behind partials, as a method, or as the `__call__` of an
       object.
    2. It is a plain one around an async function which it names as `__wrapped__`, as
       functools.wraps does. A SyncContext as the second parameter says that this decorator
       awaits by itself.
    """
    if inspect.iscoroutinefunction(function):
        return True
    if not inspect.iscoroutinefunction(_innermost(function)):
        return False
    try:
        return _origin(_resolved(function, _first_two(function)[1])) is not SyncContext
    except (IndexError, TypeError, ValueError):
        return True  # other faults of the signature are found elsewhere


def _first_two(function: Callable[..., Any]) -> tuple[inspect.Parameter, inspect.Parameter]:
    parameters = [
        each
        for each in inspect.signature(function).parameters.values()
        if each.kind is not inspect.Parameter.KEYWORD_ONLY
    ]
    # `*args` takes both.
    return parameters[0], parameters[min(1, len(parameters) - 1)]


def _resolved(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    if parameter.annotation is inspect.Parameter.empty:
        return Any
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        return Any
    holder = SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    try:
        hints = typing.get_type_hints(holder, globalns=_globals(function), include_extras=True)
    except NameError as error:
        raise TypeError(
            f"the annotation of {parameter.name!r} cannot be read: {error}; it must be imported"
            " when the program runs, not under TYPE_CHECKING, and not be local to a function"
        ) from error
    except Exception as error:
        raise TypeError(
            f"the annotation of {parameter.name!r} cannot be read: {_first_line(error)}"
        ) from error
    return hints[parameter.name]


def _check_context(function: Callable[..., Any], parameter: inspect.Parameter) -> None:
    """Raise TypeError for the context of the other kind of function."""
    try:
        origin = _origin(_resolved(function, parameter))
    except TypeError:
        return  # it may well be imported under TYPE_CHECKING
    takes_context = is_async(function)
    if origin is SyncContext and takes_context:
        raise TypeError(f"{parameter.name!r} of an async function is a Context, no SyncContext")
    if origin is Context and not takes_context:
        raise TypeError(f"{parameter.name!r} of a plain function is a SyncContext, no Context")


def _origin(annotation: Any) -> Any:
    return typing.get_origin(annotation) or annotation


def _globals(function: Callable[..., Any]) -> dict[str, Any]:
    found: dict[str, Any] = getattr(_innermost(function), "__globals__", {})
    return found


def _innermost(function: Any) -> Any:
    """Return the function inside all decorators, partials, methods and objects."""
    function = inspect.unwrap(function)
    while not hasattr(function, "__globals__"):
        inner = getattr(function, "func", None) or getattr(function, "__func__", None)
        if inner is None and inspect.ismethod(function.__call__):
            inner = function.__call__
        if inner is None:
            break
        function = inspect.unwrap(inner)
    return function


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
