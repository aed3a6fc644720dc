"""Whether an answer is DynamoDB's, and holds what its operation returns (pure).

Captive portals, egress proxies, load balancers and emulators answer in DynamoDB's place. An
answer is DynamoDB's in two steps:

1. `problem_with_response` looks at the HTTP response, before botocore reads it.
2. `problem_with_answer` looks at the fields of the answer that botocore has read.

Header fields and content types: DynamoDB Developer Guide, "DynamoDB low-level API".
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from streamer_store.values import shown

_OK: Final = 200
_FIRST_ERROR: Final = 400
BODY_TOO_LARGE: Final = 413
_CONTENT_TYPE: Final = "application/x-amz-json-1.0"
# Namespaces of the error types of DynamoDB, and of the AWS framework that it is built on.
_ERROR_NAMESPACES: Final = ("com.amazonaws.dynamodb.", "com.amazon.coral.")
_NUMERAL: Final = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)

Check = Callable[[Any], bool]


def problem_with_response(status: int, headers: Mapping[str, str], body: bytes) -> str | None:
    """Return why this HTTP response is not DynamoDB's, or None.

    `headers` has lower-case names. A response of DynamoDB bears a request id, and its body is
    one JSON object. The body of an error names a type of DynamoDB's, except where the body of
    the request was too large.
    """
    kind = headers.get("content-type", "without a content type")
    # Nothing of the body, which may hold a payload.
    seen = f"HTTP {status}, {shown(kind)}, {len(body)} bytes"
    if not headers.get("x-amzn-requestid"):
        return f"not an answer of DynamoDB's, since it has no x-amzn-RequestId: {seen}"
    checksum = headers.get("x-amz-crc32")
    if checksum is not None and checksum != str(zlib.crc32(body)):
        return f"the answer does not match its x-amz-crc32: {seen}"
    if status == BODY_TOO_LARGE:
        return None  # the one error without a type
    if status != _OK and status < _FIRST_ERROR:
        return f"DynamoDB never answers with this status: {seen}"
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return f"the answer is not JSON: {seen}"
    if not isinstance(document, dict):
        return f"the answer is not a JSON object: {seen}"
    if status == _OK:
        ours = kind.partition(";")[0].strip().lower() == _CONTENT_TYPE
        return None if ours else f"the answer is not of type {_CONTENT_TYPE}: {seen}"
    if not str(document.get("__type", "")).startswith(_ERROR_NAMESPACES):
        return f"not an error of DynamoDB's: {seen}"
    return None


def problem_with_answer(
    operation: str, arguments: Mapping[str, Any], answer: Mapping[str, Any]
) -> str | None:
    """Return which field of the answer to this operation is missing or wrong, or None."""
    for field, (required, check) in _fields(operation, arguments).items():
        value = answer.get(field)
        if value is None:
            if required:
                return f"the answer to {operation} has no {field}"
        elif not check(value):
            return f"the answer to {operation} has a wrong {field}"
    return None


def _fields(operation: str, arguments: Mapping[str, Any]) -> dict[str, tuple[bool, Check]]:
    """Return the fields that the stores read: whether each is required, and its check."""
    match operation:
        case "GetItem":
            return {"Item": (False, _is_item_of(arguments.get("Key", {})))}
        case "UpdateItem" if arguments.get("ReturnValues") == "ALL_NEW":
            return {"Attributes": (True, _is_item_of(arguments.get("Key", {})))}
        case "Query" | "Scan":
            counts = arguments.get("Select") == "COUNT"
            return {
                "Count": (True, _is_count),
                "Items": (not counts, _is_list_of(is_item)),
                "LastEvaluatedKey": (False, _is_full_item),
            }
        case "BatchGetItem":
            return {
                "Responses": (True, _is_map_of(_is_list_of(is_item))),
                "UnprocessedKeys": (True, _is_map_of(_has_keys)),
            }
        case "BatchWriteItem":
            return {"UnprocessedItems": (True, _is_map_of(_is_list_of(_is_mapping)))}
        case "DescribeTable":
            return {"Table": (True, _is_mapping)}
        case "CreateTable":
            return {"TableDescription": (True, _is_mapping)}
        case "DescribeTimeToLive":
            return {"TimeToLiveDescription": (True, _is_mapping)}
        case "UpdateTimeToLive":
            return {"TimeToLiveSpecification": (True, _is_mapping)}
    return {}


def is_item(value: Any) -> bool:
    """Whether `value` is a map of attribute names to attribute values."""
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and _is_attribute(each) for name, each in value.items()
    )


def _is_full_item(value: Any) -> bool:
    return bool(value) and is_item(value)


def _is_item_of(key: Mapping[str, Any]) -> Check:
    """Return a check for an item with this key: a proxy may answer what another call asked."""
    return lambda value: (
        _is_full_item(value) and all(value.get(name) == part for name, part in key.items())
    )


def _is_attribute(value: Any) -> bool:
    if not isinstance(value, Mapping) or len(value) != 1:
        return False
    ((kind, content),) = value.items()
    check = _KINDS.get(kind)
    return check is not None and check(content)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_blob(value: Any) -> bool:
    return isinstance(value, bytes | bytearray)


def _is_numeral(value: Any) -> bool:
    return isinstance(value, str) and _NUMERAL.fullmatch(value) is not None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _has_keys(value: Any) -> bool:
    return isinstance(value, Mapping) and _is_list_of(_is_full_item)(value.get("Keys"))


def _is_list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _is_map_of(check: Check) -> Check:
    return lambda value: isinstance(value, Mapping) and all(map(check, value.values()))


_KINDS: Final[dict[str, Check]] = {
    "S": _is_text,
    "N": _is_numeral,
    "BOOL": _is_flag,
    "NULL": _is_flag,
    "B": _is_blob,
    "M": is_item,
    "L": _is_list_of(_is_attribute),
    "SS": _is_list_of(_is_text),
    "NS": _is_list_of(_is_numeral),
    "BS": _is_list_of(_is_blob),
}
