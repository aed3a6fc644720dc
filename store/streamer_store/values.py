"""Convert Python values to DynamoDB attribute values and back, and measure them (pure).

Limits: DynamoDB Developer Guide, "Service, account, and table quotas" and "Item sizes and
formats"; the size rules were checked to the byte against DynamoDB Local
(`tests/integration/test_item_size.py`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from typing import Any, Final

from streamer_store.errors import ValidationError

AttributeValue = Mapping[str, Any]
Item = Mapping[str, AttributeValue]

MAX_DEPTH = 32
MAX_ITEM_BYTES = 400 * 1024
MAX_DIGITS = 38
MAX_KEY_BYTES = 65_535
_SHORT_KEY = MAX_KEY_BYTES // 4  # characters that are never too many bytes
_PATH_CHARS = 200
_NUMERAL: Final = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_SHOWN_CHARS = 40

# Rounded is not trapped: it is also raised for trailing zeros, which do not count as digits.
_EXACT = Context(prec=MAX_DIGITS, traps=[Inexact, InvalidOperation, Overflow])
_LARGEST = Decimal("9." + "9" * 37 + "E125")
_SMALLEST = Decimal("1E-130")
# Whole numbers of fewer digits are exact in DynamoDB, and written as Python writes them.
_PLAIN_DIGITS = 19
_LARGEST_PLAIN = 10**18


def encode(value: Any, field: str = "value", depth: int = 1) -> AttributeValue:
    """Return `value` as an attribute value.

    Accepts None, bool, int, float, Decimal, str, bytes, mappings with text keys, lists, tuples,
    and non-empty sets of text, of numbers or of bytes. Raises ValidationError for other values.
    `field` is the path that the error names, `depth` the level of nesting, from 1.
    """
    encode_exact = _ENCODERS.get(type(value))
    if encode_exact is not None and depth < MAX_DEPTH:
        return encode_exact(value, field, depth)
    return _encode_any(value, field, depth)


def _encode_any(value: Any, field: str, depth: int) -> AttributeValue:
    # DynamoDB counts a container as one more level, even an empty one.
    if depth + isinstance(value, Mapping | list | tuple) > MAX_DEPTH:
        raise ValidationError(field, f"nested deeper than {MAX_DEPTH} levels")
    match value:
        case None:
            return {"NULL": True}
        case bool():
            return {"BOOL": value}
        case str():
            return {"S": _encode_text(value, field)}
        case int() | float() | Decimal():
            return {"N": _encode_number(value, field)}
        case bytes() | bytearray():
            return {"B": bytes(value)}
        case Mapping():
            return {"M": _encode_mapping(value, field, depth)}
        case list() | tuple():
            return {
                "L": [
                    encode(element, _path(field, f"[{i}]"), depth + 1)
                    for i, element in enumerate(value)
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
    """Return the Python value of an attribute value.

    A whole number becomes an int, another number a float where that is exact, else a Decimal.
    Raises ValueError for an unknown type.
    """
    if len(value) == 1:
        (type_name,) = value
        content = value[type_name]
        if type_name == "S" and type(content) is str:
            return content
        kind, decode_exact = _DECODERS.get(type_name, _NOT_EXACT)
        if type(content) is kind:
            return decode_exact(content)
    return _decode_any(value)


def _decode_any(value: AttributeValue) -> Any:
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
            return {key: decode(entry) for key, entry in entries.items()}
        case {"L": list() | tuple() as entries}:
            return [decode(entry) for entry in entries]
        case {"B": bytes() | bytearray() as blob}:
            return bytes(blob)
        case {"SS": entries} | {"BS": entries}:
            return set(entries)
        case {"NS": entries}:
            return {_decode_number(entry) for entry in entries}
    raise ValueError(f"unknown attribute type {sorted(value)}")


def short_repr(value: Any) -> str:
    """Return at most 40 characters of the repr of `value`, or its type where repr fails."""
    try:
        return repr(value)[:_SHOWN_CHARS]
    except Exception:  # noqa: BLE001  any value; repr also fails for a very long int
        return f"of type {type(value).__name__}"


def is_numeral(text: str) -> bool:
    """Return whether the text is a number as DynamoDB writes it. Python reads more."""
    return _NUMERAL.fullmatch(text) is not None


def item_size(item: Item) -> int:
    """Return the size of `item` in bytes, as DynamoDB counts it, with the attribute names."""
    return sum(_utf8_size(name) + value_size(value) for name, value in item.items())


def value_size(value: AttributeValue) -> int:
    """Return the size of an attribute value in bytes, as DynamoDB counts it."""
    ((type_name, content),) = value.items()
    match type_name:
        case "S":
            return _utf8_size(content)
        case "N":
            return _number_size(content)
        case "B":
            return len(content)
        case "M":
            return 3 + sum(
                1 + _utf8_size(key) + value_size(entry) for key, entry in content.items()
            )
        case "L":
            return 3 + sum(1 + value_size(entry) for entry in content)
        case "SS":
            return sum(_utf8_size(member) for member in content)
        case "NS":
            return sum(_number_size(member) for member in content)
        case "BS":
            return sum(len(member) for member in content)
    return 1


def _utf8_size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _encode_text(value: str, field: str) -> str:
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValidationError(
            field, "text with a lone surrogate cannot be encoded as UTF-8"
        ) from error
    return value


def _encode_number(value: float | Decimal, field: str) -> str:
    if type(value) is int and -_LARGEST_PLAIN < value < _LARGEST_PLAIN:
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValidationError(field, f"{value} is not a number DynamoDB can hold")
    if isinstance(value, int) and abs(value) > int(_LARGEST):
        raise ValidationError(field, "number is larger than 9.99E+125")
    # Subclasses of float, such as numpy's, may have another repr.
    number = Decimal(float.__repr__(value)) if isinstance(value, float) else Decimal(value)
    if not number.is_finite():
        raise ValidationError(field, f"{value} is not a number DynamoDB can hold")
    try:
        exact = _EXACT.normalize(number)
    except (Inexact, InvalidOperation, Overflow) as error:
        raise ValidationError(field, f"number has more than {MAX_DIGITS} digits") from error
    if exact and not _SMALLEST <= exact.copy_abs() <= _LARGEST:
        raise ValidationError(field, "number is outside 1E-130 to 9.99E+125")
    # Without an exponent: Go does not parse `1E+2` as an int.
    return format(exact, "f") if exact else "0"


def _decode_number(text: str) -> int | float | Decimal:
    if len(text) < _PLAIN_DIGITS and text.isdecimal() and text.isascii():
        return int(text)
    number = Decimal(text)
    if not number.is_finite():
        raise ValueError(f"not a number: {text[:40]!r}")
    if number == number.to_integral_value():
        return int(number)
    approximate = float(number)
    return approximate if Decimal(repr(approximate)) == number else number


def _number_size(text: str) -> int:
    if len(text) < _PLAIN_DIGITS and text.isdecimal() and text.isascii() and text[0] != "0":
        digits_left = len(text.rstrip("0"))
        padding = (len(text) - digits_left) % 2
        return (digits_left + padding + 1) // 2 + 1
    # Two digits per byte, aligned at the decimal point. One more byte for the exponent, and one
    # for a minus sign.
    sign, digits, exponent = _EXACT.normalize(Decimal(text)).as_tuple()
    if digits == (0,):
        return 1
    padding = int(exponent) % 2
    return (len(digits) + padding + 1) // 2 + 1 + sign


def _encode_mapping(value: Mapping[Any, Any], field: str, depth: int) -> dict[str, AttributeValue]:
    encoded = {}
    for key, entry in value.items():
        if not isinstance(key, str):
            raise ValidationError(field, f"key {short_repr(key)} is not text")
        if not key:
            raise ValidationError(field, "a key is empty")
        name = _encode_text(key, field)
        path = _path(field, "." + name)
        if len(name) > _SHORT_KEY and _utf8_size(name) > MAX_KEY_BYTES:
            raise ValidationError(path, f"a key is longer than {MAX_KEY_BYTES:,} bytes")
        encoded[name] = encode(entry, path, depth + 1)
    return encoded


def _path(field: str, step: str) -> str:
    """Return the path one step further, cut to 200 characters."""
    path = field + step
    return path if len(path) <= _PATH_CHARS else f"{path[: _PATH_CHARS - 1]}…"


def _encode_set(value: AbstractSet[Any], field: str) -> AttributeValue:
    if not value:
        raise ValidationError(field, "DynamoDB does not store empty sets")
    if all(isinstance(member, str) for member in value):
        return {"SS": sorted(_encode_text(member, field) for member in value)}
    if all(isinstance(member, bytes) for member in value):
        return {"BS": sorted(value)}
    if all(
        isinstance(member, int | float | Decimal) and not isinstance(member, bool)
        for member in value
    ):
        # A float and a Decimal that differ in Python may be the same number in DynamoDB.
        return {"NS": sorted({_encode_number(member, field) for member in value})}
    raise ValidationError(field, "a set must hold only text, only numbers or only bytes")


# The types of most values. A match over all types takes several times as long.
_ENCODERS: Final[dict[type, Callable[[Any, str, int], AttributeValue]]] = {
    str: lambda value, field, _: {"S": _encode_text(value, field)},
    bool: lambda value, _field, _: {"BOOL": value},
    int: lambda value, field, _: {"N": _encode_number(value, field)},
    float: lambda value, field, _: {"N": _encode_number(value, field)},
    dict: lambda value, field, depth: {"M": _encode_mapping(value, field, depth)},
}
_DECODERS: Final[dict[str, tuple[type | None, Callable[[Any], Any]]]] = {
    "N": (str, _decode_number),
    "BOOL": (bool, bool),
    "M": (dict, lambda entries: {key: decode(entry) for key, entry in entries.items()}),
    "L": (list, lambda entries: [decode(entry) for entry in entries]),
}
_NOT_EXACT: Final = (None, _decode_any)
