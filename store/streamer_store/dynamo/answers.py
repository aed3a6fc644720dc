"""Check that an answer comes from DynamoDB, and has the fields of its operation (pure).

A captive portal, proxy, load balancer or emulator may answer in DynamoDB's place. So an answer
is checked twice:

1. `problem_with_response` checks the HTTP response, before botocore parses it.
2. `problem_with_answer` checks the fields of the answer that botocore has parsed.

Header fields and content types: DynamoDB Developer Guide, "DynamoDB low-level API".
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cached_property
from typing import Any, Final

from streamer_store.values import is_numeral, short_repr

_OK: Final = 200
_FIRST_ERROR: Final = 400
BODY_TOO_LARGE: Final = 413
_CONTENT_TYPE: Final = "application/x-amz-json-1.0"
# Namespaces of the error types of DynamoDB, and of the AWS framework under it.
_ERROR_NAMESPACES: Final = ("com.amazonaws.dynamodb.", "com.amazon.coral.")

_DESCRIPTIONS: Final = {
    "CreateTable": "TableDescription",
    "DescribeContinuousBackups": "ContinuousBackupsDescription",
    "DescribeTable": "Table",
    "DescribeTimeToLive": "TimeToLiveDescription",
    "UpdateTimeToLive": "TimeToLiveSpecification",
}

Check = Callable[[Any], bool]


class JsonBody(bytes):
    """The body of a response, which is parsed once: for the check, and for botocore's parser."""

    @cached_property
    def document(self) -> Any:
        """The parsed body. Raises ValueError or RecursionError where it is not JSON."""
        return json.loads(self)


def problem_with_response(status: int, headers: Mapping[str, str], body: JsonBody) -> str | None:
    """Return why an HTTP response does not come from DynamoDB, or None.

    `headers` must have lower-case names. A response from DynamoDB has a request id, and its body
    is one JSON object. The body of an error names one of DynamoDB's error types, except for
    status 413 (the request is too large).
    """
    content_type = headers.get("content-type", "without a content type")
    # Never show the body: it may contain a payload.
    summary = f"HTTP {status}, {short_repr(content_type)}, {len(body)} bytes"
    if not headers.get("x-amzn-requestid"):
        return f"not an answer from DynamoDB: it has no x-amzn-RequestId: {summary}"
    checksum = headers.get("x-amz-crc32")
    if checksum is not None and checksum != str(zlib.crc32(body)):
        return f"the answer does not match its x-amz-crc32: {summary}"
    if status == BODY_TOO_LARGE:
        return None  # The only error without a type.
    if status != _OK and status < _FIRST_ERROR:
        return f"DynamoDB never answers with this status: {summary}"
    try:
        document = body.document
    except (ValueError, RecursionError):
        return f"the answer is not JSON: {summary}"
    if not isinstance(document, dict):
        return f"the answer is not a JSON object: {summary}"
    if status == _OK:
        is_expected = content_type.partition(";")[0].strip().lower() == _CONTENT_TYPE
        return None if is_expected else f"the answer is not of type {_CONTENT_TYPE}: {summary}"
    if not str(document.get("__type", "")).startswith(_ERROR_NAMESPACES):
        return f"not an error from DynamoDB: {summary}"
    return None


def problem_with_answer(
    operation: str, arguments: Mapping[str, Any], answer: Mapping[str, Any]
) -> str | None:
    """Return which field of the answer is missing or wrong, or None.

    `operation` and `arguments` are those of the call.
    """
    for field, (is_required, is_valid) in _fields(operation, arguments).items():
        value = answer.get(field)
        if value is None:
            if is_required:
                return f"the answer to {operation} has no {field}"
        elif not is_valid(value):
            return f"the answer to {operation} has a wrong {field}"
    return None


def _fields(operation: str, arguments: Mapping[str, Any]) -> dict[str, tuple[bool, Check]]:
    """Return the fields that the stores read, as name -> (is it required, its check)."""
    match operation:
        case "GetItem":
            return {"Item": (False, _is_item_of(arguments.get("Key", {})))}
        case "UpdateItem" if arguments.get("ReturnValues") == "ALL_NEW":
            return {"Attributes": (True, _is_item_of(arguments.get("Key", {})))}
        case "Query" | "Scan":
            count_only = arguments.get("Select") == "COUNT"
            return {
                "Count": (True, _is_count),
                "Items": (not count_only, _is_list_of(is_item)),
                "LastEvaluatedKey": (False, _is_non_empty_item),
            }
        case "BatchGetItem":
            return {
                "Responses": (True, _is_map_of(_is_list_of(is_item))),
                "UnprocessedKeys": (True, _is_map_of(_has_keys)),
            }
        case "BatchExecuteStatement":
            count = len(arguments["Statements"])
            return {"Responses": (True, lambda value: _is_statement_list(value, count))}
        case "BatchWriteItem":
            return {"UnprocessedItems": (True, _is_map_of(_is_list_of(_is_mapping)))}
        case "CreateBackup":
            return {"BackupDetails": (True, _is_backup)}
        case "DescribeBackup":
            return {"BackupDescription": (True, _has_backup)}
        case "ListBackups":
            return {
                "BackupSummaries": (True, _is_list_of(_is_backup)),
                "LastEvaluatedBackupArn": (False, _is_text),
            }
    field = _DESCRIPTIONS.get(operation)
    return {field: (True, _is_mapping)} if field else {}


def is_item(value: Any) -> bool:
    """Whether `value` is a map of attribute names to attribute values."""
    if not isinstance(value, dict):
        return False
    for name, part in value.items():  # a loop: this checks every item that is read
        if not isinstance(name, str) or not _is_attribute_value(part):
            return False
    return True


def is_reason_list(value: Any) -> bool:
    """Whether `value` is the CancellationReasons of a transaction."""
    return isinstance(value, list) and all(
        isinstance(reason, dict)
        and _is_text(reason.get("Code"))
        and (reason.get("Item") is None or is_item(reason["Item"]))
        for reason in value
    )


def _is_non_empty_item(value: Any) -> bool:
    return bool(value) and is_item(value)


def _is_item_of(key: Mapping[str, Any]) -> Check:
    """Return a check for an item with this key. A proxy may return the answer to another call."""
    return lambda value: (
        _is_non_empty_item(value) and all(value.get(name) == part for name, part in key.items())
    )


def _is_attribute_value(value: Any) -> bool:
    if not isinstance(value, dict) or len(value) != 1:
        return False
    for type_name, content in value.items():
        if type_name == "S":
            return isinstance(content, str)
        check = _CHECKS.get(type_name)
        return check is not None and check(content)
    return False


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_blob(value: Any) -> bool:
    return isinstance(value, bytes | bytearray)


def _is_numeral(value: Any) -> bool:
    return isinstance(value, str) and is_numeral(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_backup(value: Any) -> bool:
    """Whether `value` has the fields that BackupDetails and BackupSummary share."""
    return (
        isinstance(value, Mapping)
        and all(_is_text(value.get(name)) for name in ("BackupArn", "BackupName", "BackupStatus"))
        and isinstance(value.get("BackupCreationDateTime"), datetime)
        and _is_count(value.get("BackupSizeBytes", 0))
    )


def _has_backup(value: Any) -> bool:
    return isinstance(value, Mapping) and _is_backup(value.get("BackupDetails"))


def _has_keys(value: Any) -> bool:
    return isinstance(value, Mapping) and _is_list_of(_is_non_empty_item)(value.get("Keys"))


def _is_statement_list(value: Any, count: int) -> bool:
    return _is_list_of(_is_statement_response)(value) and len(value) == count


def _is_statement_response(value: Any) -> bool:
    if not isinstance(value, Mapping) or not is_item(value.get("Item") or {}):
        return False
    error = value.get("Error")
    return error is None or (isinstance(error, Mapping) and _is_text(error.get("Code")))


def _is_list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _is_map_of(check: Check) -> Check:
    return lambda value: isinstance(value, Mapping) and all(map(check, value.values()))


_CHECKS: Final[dict[str, Check]] = {
    "S": _is_text,
    "N": _is_numeral,
    "BOOL": _is_flag,
    "NULL": _is_flag,
    "B": _is_blob,
    "M": is_item,
    "L": _is_list_of(_is_attribute_value),
    "SS": _is_list_of(_is_text),
    "NS": _is_list_of(_is_numeral),
    "BS": _is_list_of(_is_blob),
}
