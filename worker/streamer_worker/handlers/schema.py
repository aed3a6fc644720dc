"""The schema of a handler's payload: the annotation of its first parameter."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from streamer_worker.handlers.context import Context, SyncContext
from streamer_worker.sanitize import pydantic_message

_METADATA: Final = "_metadata"
_FIELDS_SHOWN: Final = 20
_NOT_MAPPINGS: Final = frozenset({"array", "boolean", "integer", "null", "number", "string"})


class PayloadInvalid(Exception):
    """The payload does not fit its schema. `fields` has the path and the text of each fault.

    The worker raises it before it calls the handler. A handler may raise it, too: the request
    fails without a retry, with the ErrorCode VALIDATION_ERROR.
    """

    def __init__(self, fields: tuple[tuple[str, str], ...]) -> None:
        faults = "; ".join(f"{path}: {fault}" if path else fault for path, fault in fields)
        super().__init__(f"the payload does not fit: {faults}")
        self.fields = fields

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of the faults: names of fields, without values, so that they can be logged."""
        return tuple(path for path, _ in self.fields)


class PayloadSchema:
    """What a payload must be. `annotation` is Any for a handler without an annotation."""

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation
        self._adapter: TypeAdapter[Any] | None = None
        if annotation is not Any:
            self._adapter = TypeAdapter(annotation)

    def parse(self, payload: Mapping[str, Any] | None) -> Any:
        """Return the payload as an object of the annotated type, without the router's `_metadata`.

        Raises PayloadInvalid, whose text has no value of the payload.
        """
        fields = dict(payload or {})
        if isinstance(fields.get(_METADATA), Mapping):
            del fields[_METADATA]
        if self._adapter is None:
            return fields
        try:
            return self._adapter.validate_python(fields)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False, include_context=False)
            raise PayloadInvalid(
                tuple(
                    (_path(fault["loc"]), pydantic_message(fault))
                    for fault in faults[:_FIELDS_SHOWN]
                )
            ) from None

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema. Raises PydanticUserError for a type that has none."""
        return {"type": "object"} if self._adapter is None else self._adapter.json_schema()

    @property
    def name(self) -> str:
        """The annotation, as the CLI and errors show it."""
        if self._adapter is None:
            return "dict"
        if isinstance(self.annotation, type) and not typing.get_args(self.annotation):
            return self.annotation.__name__
        return str(self.annotation).replace("typing.", "")


def schema_of(function: Callable[..., Any]) -> PayloadSchema:
    """Return the payload schema of a handler. Raises TypeError, which names the parameter and the
    fault.
    """
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
        kind = None  # pydantic can validate it, but has no JSON Schema for it
    if kind in _NOT_MAPPINGS:
        raise TypeError(f"{name!r} is annotated as {schema.name}, but a payload is a mapping")
    return schema


def is_async(function: Callable[..., Any]) -> bool:
    """Return whether a call of the function returns an awaitable. It does in two cases.

    1. The function is async, even inside partials, as a method, or as the `__call__` of an object.
    2. The function is a plain function whose `__wrapped__`, as functools.wraps sets it, is an async
       function. Exception: its second parameter is a SyncContext. Then the decorator awaits by
       itself.
    """
    if inspect.iscoroutinefunction(function):
        return True
    if not inspect.iscoroutinefunction(_innermost(function)):
        return False
    try:
        return _origin(_resolved(function, _first_two(function)[1])) is not SyncContext
    except (IndexError, TypeError, ValueError):
        return True  # schema_of reports other faults of the signature


def _first_two(function: Callable[..., Any]) -> tuple[inspect.Parameter, inspect.Parameter]:
    parameters = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY
    ]
    # A single `*args` takes the payload and the context.
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
    """Raise TypeError if an async function takes a SyncContext, or a plain one a Context."""
    try:
        origin = _origin(_resolved(function, parameter))
    except TypeError:
        return  # a context may be imported under TYPE_CHECKING
    takes_context = is_async(function)
    if origin is SyncContext and takes_context:
        raise TypeError(
            f"an async function takes a Context: annotate {parameter.name!r} as Context"
        )
    if origin is Context and not takes_context:
        raise TypeError(
            f"a plain function takes a SyncContext: annotate {parameter.name!r} as SyncContext"
        )


def _origin(annotation: Any) -> Any:
    return typing.get_origin(annotation) or annotation


def _globals(function: Callable[..., Any]) -> dict[str, Any]:
    module_globals: dict[str, Any] = getattr(_innermost(function), "__globals__", {})
    return module_globals


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
