"""Convert items to lines of DynamoDB's JSON and back (pure).

A line is `{"Item": {...}}`, with binary values in base64. That is the format DYNAMODB_JSON of
DynamoDB's export to S3 and import from S3 (Developer Guide, "DynamoDB table export output format").
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from streamer_store.errors import ValidationError
from streamer_store.schema import Table
from streamer_store.validation import MAX_HASH_KEY_BYTES
from streamer_store.values import (
    MAX_DEPTH,
    MAX_ITEM_BYTES,
    MAX_KEY_BYTES,
    AttributeValue,
    Item,
    encode,
    is_numeral,
    item_size,
    short_repr,
)

MAX_LINE_BYTES: Final = 8 * MAX_ITEM_BYTES
"""No item of 400 KB has a longer line: JSON needs at most six bytes for one."""
_MAX_RANGE_KEY_BYTES: Final = 1024
_PLAIN_DIGITS: Final = 19

_encode: Final = json.JSONEncoder(
    ensure_ascii=False,
    separators=(",", ":"),
    check_circular=False,
    default=lambda blob: base64.b64encode(blob).decode(),
).encode


def encode_lines(items: Iterable[Item]) -> bytes:
    """Return one line for each item, each with its line break."""
    return "".join([f'{{"Item":{_encode(item)}}}\n' for item in items]).encode()


def decode_line(line: bytes, table: Table) -> Item:
    """Return the item of a line. Raises ValueError with the reason if it is not one of the table.

    The item has DynamoDB's types only, keys that DynamoDB accepts, and 400 KB at most.
    """
    try:
        document = json.loads(line)
    except UnicodeDecodeError as error:
        raise ValueError("not UTF-8") from error
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from error
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply") from error
    if not isinstance(document, dict) or document.keys() != {"Item"}:
        raise ValueError('not of the form {"Item": {...}}')
    content = document["Item"]
    if not isinstance(content, dict):
        raise ValueError("the Item is not an object")
    item = {name: _value(value, name, 1) for name, value in content.items()}
    _require_keys(item, table)
    size = item_size(item)
    if size > MAX_ITEM_BYTES:
        raise ValueError(f"the item has {size:,} bytes, and DynamoDB takes {MAX_ITEM_BYTES:,}")
    return item


def _require_keys(item: Item, table: Table) -> None:
    if table.hash_key not in item:
        raise ValueError(f"the item has no {table.hash_key}, the key of {table.name}")
    _require_key(item, table.hash_key, MAX_HASH_KEY_BYTES)
    for index in table.indexes:
        _require_key(item, index.hash_key, MAX_HASH_KEY_BYTES)
        if index.range_key is not None:
            _require_key(item, index.range_key, _MAX_RANGE_KEY_BYTES)


def _require_key(item: Item, name: str, most: int) -> None:
    value = item.get(name)
    if value is None:
        return
    text = value.get("S")
    if text is None:
        raise ValueError(f"{name} is a key, and not text")
    if not 0 < len(text.encode()) <= most:
        raise ValueError(f"{name} is a key, and must have 1 to {most} bytes")


def _value(value: Any, name: str, depth: int) -> AttributeValue:
    if not name or len(name.encode(errors="replace")) > MAX_KEY_BYTES:
        raise ValueError(f"the name {_shown(name)} has not 1 to {MAX_KEY_BYTES:,} bytes")
    if type(value) is not dict or len(value) != 1:
        raise ValueError(f"{_shown(name)} is no attribute value: {short_repr(value)}")
    ((kind, content),) = value.items()
    if kind == "S" and type(content) is str and content.isascii():
        return value
    decode = _DECODERS.get(kind)
    if decode is None:
        raise ValueError(f"{_shown(name)} has an unknown type: {short_repr(kind)}")
    if depth + (kind in {"M", "L"}) > MAX_DEPTH:
        raise ValueError(f"{_shown(name)} is nested deeper than {MAX_DEPTH} levels")
    try:
        return {kind: decode(content, name, depth)}
    except _WrongError:
        raise ValueError(f"{_shown(name)} is no {kind}: {short_repr(content)}") from None


class _WrongError(Exception):
    """The content of an attribute value is not of its type."""


def _text(content: Any, *_: Any) -> str:
    if type(content) is not str:
        raise _WrongError
    try:
        content.encode()
    except UnicodeEncodeError as error:
        raise _WrongError from error
    return content


def _numeral(content: Any, *_: Any) -> str:
    if type(content) is not str:
        raise _WrongError
    if len(content) < _PLAIN_DIGITS and content.isascii() and content.isdecimal():
        return content
    if not is_numeral(content):
        raise _WrongError
    try:
        encode(Decimal(content))
    except (InvalidOperation, ValidationError) as error:
        raise _WrongError from error
    return content


def _blob(content: Any, *_: Any) -> bytes:
    if type(content) is not str:
        raise _WrongError
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _WrongError from error


def _flag(content: Any, *_: Any) -> bool:
    if type(content) is not bool:
        raise _WrongError
    return content


def _null(content: Any, *_: Any) -> bool:
    if content is not True:
        raise _WrongError
    return content


def _map(content: Any, name: str, depth: int) -> Mapping[str, AttributeValue]:
    if type(content) is not dict:
        raise _WrongError
    return {key: _value(part, f"{name}.{key}", depth + 1) for key, part in content.items()}


def _list(content: Any, name: str, depth: int) -> list[AttributeValue]:
    if type(content) is not list:
        raise _WrongError
    return [_value(part, name, depth + 1) for part in content]


def _set_of(
    decode: Callable[[Any], Any], unique: Callable[[Any], Any] = lambda member: member
) -> Callable[[Any, str, int], list[Any]]:
    """Return the decoder of a set. Members are the same if `unique` returns the same for them."""

    def decode_set(content: Any, *_: Any) -> list[Any]:
        if type(content) is not list or not content:
            raise _WrongError
        members = [decode(member) for member in content]
        if len(set(map(unique, members))) < len(members):
            raise _WrongError
        return members

    return decode_set


def _shown(name: str) -> str:
    return short_repr(name)


_DECODERS: Final[dict[str, Callable[[Any, str, int], Any]]] = {
    "S": _text,
    "N": _numeral,
    "B": _blob,
    "BOOL": _flag,
    "NULL": _null,
    "M": _map,
    "L": _list,
    "SS": _set_of(_text),
    "NS": _set_of(_numeral, Decimal),
    "BS": _set_of(_blob),
}
