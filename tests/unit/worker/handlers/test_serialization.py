"""Converting results of handlers for the table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from pydantic import BaseModel, Field

from streamer_worker.handlers.serialization import serializable


class Color(Enum):
    RED = "red"


class Size(StrEnum):
    LARGE = "large"


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Inner:
    when: datetime
    tags: tuple[str, ...] = ()


class Outer(BaseModel):
    inner: Inner
    total: Decimal = Field(serialization_alias="sum")


WHEN = datetime(2026, 3, 14, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (1.5, 1.5),
        (Decimal("1.50"), Decimal("1.50")),
        (b"bytes", b"bytes"),
        ({"a", "b"}, {"a", "b"}),
        (WHEN, "2026-03-14T12:00:00Z"),
        (date(2026, 3, 14), "2026-03-14"),
        (timedelta(minutes=1), "PT1M"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Path("a/b"), "a/b"),
        (Color.RED, "red"),
        (Size.LARGE, "large"),
        (Point(1, 2), [1, 2]),
        (Inner(WHEN, ("a",)), {"when": "2026-03-14T12:00:00Z", "tags": ["a"]}),
        (
            Outer(inner=Inner(WHEN), total=Decimal("1.50")),
            {"inner": {"when": "2026-03-14T12:00:00Z", "tags": []}, "sum": "1.50"},
        ),
        (
            {"list": [Inner(WHEN), Color.RED], "n": {"x": WHEN}},
            {
                "list": [{"when": "2026-03-14T12:00:00Z", "tags": []}, "red"],
                "n": {"x": "2026-03-14T12:00:00Z"},
            },
        ),
    ],
)
def test_results_are_converted_for_the_table(value: Any, expected: Any) -> None:
    """Models and the like are converted as pydantic does. Values that DynamoDB holds are
    unchanged.
    """
    converted = serializable(value)
    assert converted == expected
    assert type(converted) is type(expected)


def test_a_class_is_not_converted() -> None:
    """The table refuses it."""
    assert serializable(Inner) is Inner


def test_a_value_that_contains_itself_raises() -> None:
    """It raises RecursionError."""
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(RecursionError):
        serializable(loop)
