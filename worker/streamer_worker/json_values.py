"""Converts values of the tables to JSON (pure)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from decimal import Decimal
from typing import Any


def to_json(value: object) -> Any:
    """Convert a value of the table that JSON does not have. Raises TypeError for any other."""
    match value:
        case Decimal():
            return float(value)
        case bytes():
            return base64.b64encode(value).decode()
        case set() | frozenset():
            return sorted(value)
        case Mapping():
            return dict(value)
    raise TypeError(f"{type(value).__name__} is not a type that a table can hold")
