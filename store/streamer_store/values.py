"""Python values <-> DynamoDB attribute values, and their size (pure).

Limits: DynamoDB Developer Guide, "Service, account, and table quotas" and "Item sizes and
formats"; the size rules were checked to the byte against DynamoDB Local
(`tests/integration/test_item_size.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from typing import Any

from streamer_store.errors import ValidationError

AttributeValue = Mapping[str, Any]
Item = Mapping[str, AttributeValue]

MAX_DEPTH = 32
MAX_ITEM_BYTES = 400 * 1024
MAX_DIGITS = 38
MAX_KEY_BYTES = 65_535
_PATH_CHARS = 200
_SHOWN_CHARS = 40

# Rounded is no trap: it is raised for zeros at the end, which are no digits.
_EXACT = Context(prec=MAX_DIGITS, traps=[Inexact, InvalidOperation, Overflow])
_LARGEST = Decimal("9." + "9" * 37 + "E125")
_SMALLEST = Decimal("1E-130")


def encode(value: Any, field: str = "value", depth: int = 1) -> AttributeValue:
    """Return `value` as an attribute value.

    Takes None, bool, int, float, Decimal, str, bytes, mappings with text keys, lists, tuples
    and non-empty sets of one kind. Raises ValidationError, naming the path, for the rest.
    """
    # A container is a level above whatever it holds, even when it holds nothing.
    if depth + isinstance(value, Mapping | list | tuple) > MAX_DEPTH:
        raise ValidationError(field, f"nested deeper than {MAX_DEPTH} levels")
    match value:
        case None:
            return {"NULL": True}
        case bool():
            return {"BOOL": value}
        case str():
            return {"S": _text(value, field)}
        case int() | float() | Decimal():
            return {"N": _number(value, field)}
        case bytes() | bytearray():
            return {"B": bytes(value)}
        case Mapping():
            return {"M": _encode_mapping(value, field, depth)}
        case list() | tuple():
            return {
                "L": [
                    encode(each, _inside(field, f"[{i}]"), depth + 1)
                    for i, each in enumerate(value)
                ]
            }
        case AbstractSet():
            return _encode_set(value, field)
    raise ValidationError(field, f"{type(value).__name__} cannot be stored in DynamoDB")


def encode_document(value: Mapping[str, Any], field: str) -> AttributeValue:
    """Return a mapping as an attribute value of type M. Raises ValidationError."""
    if not isinstance(value, Mapping):
        raise ValidationError(field, f"must be a mapping, not {type(value).__name__}")
    return encode(value, field)


def decode(value: AttributeValue) -> Any:
    """Return the Python value: numbers as int, or float where that is exact, else Decimal.

    Raises ValueError when the attribute value has no known type.
    """
    match dict(value):
        case {"S": str() as text}:
            return text
        case {"N": str() as number}:
            return _decode_number(number)
        case {"BOOL": bool() as flag}:
            return flag
        case {"NULL": _}:
            return None
        case {"M": Mapping() as entries}:
            return {key: decode(each) for key, each in entries.items()}
        case {"L": list() | tuple() as entries}:
            return [decode(each) for each in entries]
        case {"B": bytes() | bytearray() as blob}:
            return bytes(blob)
        case {"SS": entries} | {"BS": entries}:
            return set(entries)
        case {"NS": entries}:
            return {_decode_number(each) for each in entries}
    raise ValueError(f"unknown attribute type {sorted(value)}")


def short_repr(value: Any) -> str:
    """Return `value` as an error may show it: never long, and whatever its repr does."""
    try:
        return repr(value)[:_SHOWN_CHARS]
    except Exception:  # noqa: BLE001  it is the caller's; a very long int has none, either
        return f"of type {type(value).__name__}"


def item_size(item: Item) -> int:
    """Return the bytes that DynamoDB counts for `item`, attribute names included."""
    return sum(_utf8(name) + value_size(value) for name, value in item.items())


def value_size(value: AttributeValue) -> int:
    ((kind, content),) = value.items()
    match kind:
        case "S":
            return _utf8(content)
        case "N":
            return _number_size(content)
        case "B":
            return len(content)
        case "M":
            return 3 + sum(1 + _utf8(key) + value_size(each) for key, each in content.items())
        case "L":
            return 3 + sum(1 + value_size(each) for each in content)
        case "SS":
            return sum(_utf8(each) for each in content)
        case "NS":
            return sum(_number_size(each) for each in content)
        case "BS":
            return sum(len(each) for each in content)
    return 1


def _utf8(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _text(value: str, field: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValidationError(field, "text with a lone surrogate is not UTF-8") from error
    return value


def _number(value: float | Decimal, field: str) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValidationError(field, f"{value} is not a number DynamoDB can hold")
    if isinstance(value, int) and abs(value) > int(_LARGEST):
        raise ValidationError(field, "number is larger than 9.99E+125")
    # Subclasses of float (numpy's, for one) have a repr of their own.
    number = Decimal(float.__repr__(value)) if isinstance(value, float) else Decimal(value)
    if not number.is_finite():
        raise ValidationError(field, f"{value} is not a number DynamoDB can hold")
    try:
        exact = _EXACT.normalize(number)
    except (Inexact, InvalidOperation, Overflow) as error:
        raise ValidationError(field, f"number has more than {MAX_DIGITS} digits") from error
    if exact and not _SMALLEST <= exact.copy_abs() <= _LARGEST:
        raise ValidationError(field, "number is outside 1E-130 to 9.99E+125")
    # Plain digits: Go parses no `1E+2` as an int.
    return format(exact, "f") if exact else "0"


def _decode_number(text: str) -> int | float | Decimal:
    number = Decimal(text)
    if not number.is_finite():
        raise ValueError(f"not a number: {text[:40]!r}")
    if number == number.to_integral_value():
        return int(number)
    approximate = float(number)
    return approximate if Decimal(repr(approximate)) == number else number


def _number_size(text: str) -> int:
    # Two digits a byte, aligned at the decimal point, one byte for the exponent, one for a sign.
    sign, digits, exponent = _EXACT.normalize(Decimal(text)).as_tuple()
    if digits == (0,):
        return 1
    odd = int(exponent) % 2
    return (len(digits) + odd + 1) // 2 + 1 + sign


def _encode_mapping(value: Mapping[Any, Any], field: str, depth: int) -> dict[str, AttributeValue]:
    encoded = {}
    for key, each in value.items():
        if not isinstance(key, str):
            raise ValidationError(field, f"key {short_repr(key)} is not text")
        if not key:
            raise ValidationError(field, "a key is empty")
        name = _text(key, field)
        inside = _inside(field, f".{name}")
        if _utf8(name) > MAX_KEY_BYTES:
            raise ValidationError(inside, f"a key is longer than {MAX_KEY_BYTES:,} bytes")
        encoded[name] = encode(each, inside, depth + 1)
    return encoded


def _inside(field: str, step: str) -> str:
    path = field + step
    return path if len(path) <= _PATH_CHARS else f"{path[: _PATH_CHARS - 1]}…"


def _encode_set(value: AbstractSet[Any], field: str) -> AttributeValue:
    if not value:
        raise ValidationError(field, "DynamoDB holds no empty sets")
    if all(isinstance(each, str) for each in value):
        return {"SS": sorted(_text(each, field) for each in value)}
    if all(isinstance(each, bytes) for each in value):
        return {"BS": sorted(value)}
    if all(
        isinstance(each, int | float | Decimal) and not isinstance(each, bool) for each in value
    ):
        # A float and a Decimal that differ in Python may be one number in the table.
        return {"NS": sorted({_number(each, field) for each in value})}
    raise ValidationError(field, "a set must hold only text, only numbers or only bytes")
