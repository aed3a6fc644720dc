"""What a handler gives, as values that DynamoDB can hold (pure)."""

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


def plain(value: Any) -> Any:
    """Return models, dataclasses, enums, times, paths and UUIDs, at any depth, as pydantic
    writes them in JSON, and leave the rest as it is.

    Raises what the value's own code raises; RecursionError for one that contains itself.
    """
    match value:
        case None | bool() | str() | int() | float() if not isinstance(value, Enum):
            return value
        case Enum():
            return plain(value.value)
        case BaseModel():
            return _as_json(value)
        case Mapping():
            return {key: plain(each) for key, each in value.items()}
        case list() | tuple():
            return [plain(each) for each in value]
        case _ if isinstance(value, _TEXTUAL):
            return _as_json(value)
        case _ if is_dataclass(value) and not isinstance(value, type):
            return _as_json(value)
    return value


def _as_json(value: Any) -> Any:
    return _ANY.dump_python(value, mode="json", by_alias=True)
