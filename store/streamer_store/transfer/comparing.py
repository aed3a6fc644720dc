"""Compare items as DynamoDB does: numbers by value, sets without an order (pure)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from streamer_store.values import AttributeValue, Item


def is_same_item(one: Item, other: Item) -> bool:
    """Return whether two items have the same attributes with the same values."""
    return one == other or (
        one.keys() == other.keys()
        and all(comparable(value) == comparable(other[name]) for name, value in one.items())
    )


def comparable(value: AttributeValue) -> tuple[str, Any]:
    """Return a form of an attribute value that is equal for equal values."""
    ((kind, content),) = value.items()
    match kind:
        case "N":
            return kind, Decimal(content)
        case "NS":
            return kind, frozenset(map(Decimal, content))
        case "SS" | "BS":
            return kind, frozenset(content)
        case "M":
            return kind, {name: comparable(part) for name, part in content.items()}
        case "L":
            return kind, [comparable(part) for part in content]
    return kind, content
