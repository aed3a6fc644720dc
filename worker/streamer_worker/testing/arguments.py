"""Converts the payloads that tests pass, and chooses between a test's state and a real lifespan."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import BaseModel

from streamer_worker.handlers.definition import Handler, HandlerGroup
from streamer_worker.handlers.registry import Registry
from streamer_worker.handlers.serialization import serializable

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Payload: TypeAlias = "Mapping[str, Any] | BaseModel | DataclassInstance"
"""A payload of a test: a mapping, a pydantic model or a dataclass. Models, dataclasses, enums,
times, UUIDs and paths inside it, at any depth, become what they are in a producer's JSON. So does
a Decimal in a model or a dataclass. A Decimal in a mapping remains a number.
"""


def payload_of(payload: Payload | None) -> dict[str, Any]:
    """Return the payload as a producer stores it. None is an empty payload.

    Raises TypeError for a payload that is not a mapping, a model or a dataclass.
    """
    converted = {} if payload is None else serializable(payload)
    if not isinstance(converted, Mapping):
        raise TypeError(
            f"a payload is a mapping, a model or a dataclass, not {type(payload).__name__}"
        )
    return dict(converted)


def check_lifespan(handler: Handler, *, has_state: bool, enter_lifespan: bool) -> None:
    """Raise TypeError unless the test says which state the handler of a group gets."""
    if has_state and enter_lifespan:
        raise TypeError("pass state or enter_lifespan=True, not both")
    lifespan = None if handler.group is None else handler.group.lifespan
    if lifespan is None or has_state or enter_lifespan:
        return
    raise TypeError(
        f"the group of {handler.action!r} has a lifespan, {_name(lifespan)}. "
        "Pass state=... to run the handler with a state of the test, "
        "or enter_lifespan=True to enter the lifespan"
    )


def with_states(
    registry: Registry, states: Mapping[HandlerGroup[Any], Any], *, enter_lifespans: bool
) -> Registry:
    """Return the handlers with groups whose lifespans yield the values in `states`.

    Raises TypeError for a group without handlers in `registry`, and for a group that has a
    lifespan but no value, unless `enter_lifespans` is true.
    """
    groups = {handler.group for handler in registry.values()}
    if not groups.issuperset(states):
        raise TypeError("states has a group of which no handler is passed")
    if not enter_lifespans:
        _check_lifespans(registry.values(), states)
    stand_ins: dict[HandlerGroup[Any] | None, HandlerGroup[Any]] = {
        group: HandlerGroup(lifespan=_yielding(state)) for group, state in states.items()
    }
    return {
        action: replace(handler, group=stand_ins[handler.group])
        if handler.group in stand_ins
        else handler
        for action, handler in registry.items()
    }


def _check_lifespans(handlers: Iterable[Handler], states: Mapping[HandlerGroup[Any], Any]) -> None:
    for handler in handlers:
        group = handler.group
        if group is not None and group.lifespan is not None and group not in states:
            raise TypeError(
                f"the group of {handler.action!r} has a lifespan, {_name(group.lifespan)}. "
                "Pass states={group: ...} to run its handlers with a state of the test, "
                "or enter_lifespans=True to enter all lifespans that have no state. "
                "The fixture `streamer` takes both from the fixture `streamer_options`"
            )


def _yielding(state: Any) -> Any:
    @asynccontextmanager
    async def lifespan() -> AsyncIterator[Any]:
        yield state

    return lifespan


def _name(lifespan: object) -> str:
    return getattr(lifespan, "__qualname__", repr(lifespan))
