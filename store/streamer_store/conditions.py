"""The conditions of writes, as data."""

from __future__ import annotations

from dataclasses import dataclass

from streamer_store.values import AttributeValue


@dataclass(frozen=True, slots=True)
class Absent:
    """The item has no such attribute (`attribute_not_exists`)."""

    name: str


@dataclass(frozen=True, slots=True)
class Present:
    """The item has this attribute (`attribute_exists`)."""

    name: str


@dataclass(frozen=True, slots=True)
class OneOf:
    """The attribute has one of these values, 100 at most (`IN`)."""

    name: str
    values: tuple[AttributeValue, ...]


@dataclass(frozen=True, slots=True)
class Below:
    """The attribute is a number smaller than `value` (`<`). False for an absent attribute."""

    name: str
    value: AttributeValue


@dataclass(frozen=True, slots=True)
class Between:
    """The attribute is a number from `low` to `high` (`BETWEEN`). False for an absent attribute."""

    name: str
    low: AttributeValue
    high: AttributeValue


Condition = Absent | Present | OneOf | Below | Between


def equals(name: str, value: AttributeValue | None) -> Condition:
    """Return the condition that the attribute is `value`, or absent where `value` is None."""
    return Absent(name) if value is None else OneOf(name, (value,))
