"""Converts results and checkpoints of handlers to values that DynamoDB can hold (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from datetime import date, time, timedelta
from enum import Enum
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel, TypeAdapter

_ANY: Final = TypeAdapter(Any)
_TEXTUAL: Final = (date, time, timedelta, UUID, PurePath)


def serializable(value: Any) -> Any:
    """Return models, dataclasses, enums, times, paths and UUIDs, at any depth, as pydantic
    writes them in JSON. Other values are returned unchanged.

    Raises what the value's own code raises, and RecursionError for a value that contains itself.
    """
    match value:
        case None | bool() | str() | int() | float() if not isinstance(value, Enum):
            return value
        case Enum():
            return serializable(value.value)
        case BaseModel():
            return _as_json(value)
        case Mapping():
            return {key: serializable(member) for key, member in value.items()}
        case list() | tuple():
            return [serializable(member) for member in value]
        case _ if isinstance(value, _TEXTUAL):
            return _as_json(value)
        case _ if is_dataclass(value) and not isinstance(value, type):
            return _as_json(value)
    return value


def _as_json(value: Any) -> Any:
    return _ANY.dump_python(value, mode="json", by_alias=True)
