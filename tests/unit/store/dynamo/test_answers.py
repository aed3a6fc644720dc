"""Checks of answers: do they come from DynamoDB, with the fields of their operation?"""

from __future__ import annotations

import zlib
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from streamer_store.dynamo.answers import JsonBody, problem_with_answer, problem_with_response

HEADERS: Final = {"x-amzn-requestid": "1", "content-type": "application/x-amz-json-1.0"}
REFUSED: Final = b'{"__type": "com.amazon.coral.validate#ValidationException", "message": "no"}'
ITEM: Final = {
    "S": {"S": ""},
    "N": {"N": "-1.5E+3"},
    "BOOL": {"BOOL": False},
    "NULL": {"NULL": True},
    "B": {"B": b""},
    "M": {"M": {"a": {"L": [{"S": "a"}, {"M": {}}]}}},
    "SS": {"SS": ["a"]},
    "NS": {"NS": ["1"]},
    "BS": {"BS": [b"a"]},
}
BACKUP: Final[dict[str, Any]] = {
    "BackupArn": "arn",
    "BackupName": "nightly",
    "BackupStatus": "CREATING",
    "BackupCreationDateTime": datetime(2026, 11, 26, tzinfo=UTC),
}
WRONG: Final[list[Any]] = [
    {"a": {"S": 1}},
    {"a": {"N": "many"}},
    {"a": {"N": 1}},
    {"a": {"N": "NaN"}},
    {"a": {"BOOL": "true"}},
    {"a": {"B": "text"}},
    {"a": {"M": [1]}},
    {"a": {"M": {"b": {}}}},
    {"a": {"L": {"S": "a"}}},
    {"a": {"L": ["a"]}},
    {"a": {"SS": "a"}},
    {"a": {"SS": [1]}},
    {"a": {"NS": ["many"]}},
    {"a": {"BS": ["a"]}},
    {"a": {"X": 1}},
    {"a": {"S": "a", "N": "1"}},
    {"a": {}},
    {"a": "text"},
    {1: {"S": "a"}},
    ["a"],
    "text",
    5,
]


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (200, HEADERS, b"{}"),
        (200, HEADERS | {"content-type": "application/x-amz-json-1.0; charset=utf-8"}, b"{}"),
        (200, HEADERS | {"x-amz-crc32": str(zlib.crc32(b"{}"))}, b"{}"),
        (400, HEADERS, REFUSED),
        (400, HEADERS | {"content-type": "application/json"}, REFUSED),
        (500, HEADERS, b'{"__type": "com.amazonaws.dynamodb.v20120810#InternalServerError"}'),
        (413, HEADERS, b"HTTP content length exceeded 16777216 bytes."),
    ],
)
def test_an_answer_from_dynamodb_has_no_problem(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    """Results and errors pass, and so does status 413, which has no error type."""
    assert problem_with_response(status, headers, JsonBody(body)) is None


@pytest.mark.parametrize(
    ("status", "headers", "body", "problem"),
    [
        (200, {}, b"<html>", "x-amzn-RequestId: HTTP 200, 'without a content type', 6 bytes"),
        (413, {"content-type": "text/html"}, b"", "has no x-amzn-RequestId: HTTP 413, 'text/html'"),
        (200, HEADERS | {"x-amz-crc32": "1"}, b"{}", "does not match its x-amz-crc32"),
        (204, HEADERS, b"", "never answers with this status: HTTP 204"),
        (302, HEADERS, b"{}", "never answers with this status: HTTP 302"),
        (200, HEADERS, b"", "is not JSON"),
        (200, HEADERS, b'{"Items": [', "is not JSON"),
        (200, HEADERS, b'{"a": "\xff"}', "is not JSON"),
        (200, HEADERS, b"[" * 100_000, "is not JSON"),
        (200, HEADERS, b"null", "is not a JSON object"),
        (400, HEADERS, b"[1]", "is not a JSON object"),
        (200, HEADERS | {"content-type": "application/json"}, b"{}", "is not of type"),
        (400, HEADERS, b"{}", "not an error from DynamoDB"),
        (400, HEADERS, b'{"__type": 5}', "not an error from DynamoDB"),
        (400, HEADERS, b'{"__type": "ValidationException"}', "not an error from DynamoDB"),
        (500, HEADERS, b'{"__type": "com.amazonaws.kinesis#No"}', "not an error from DynamoDB"),
    ],
)
def test_an_answer_from_another_server_has_a_problem(
    status: int, headers: dict[str, str], body: bytes, problem: str
) -> None:
    """The problem summarises the answer in under 200 characters, without the body."""
    message = problem_with_response(status, headers, JsonBody(body))
    assert message is not None
    assert problem in message
    assert len(message) < 200
    assert "html>" not in message


@pytest.mark.parametrize(
    ("operation", "arguments", "answer"),
    [
        ("GetItem", {}, {}),
        ("GetItem", {}, {"Item": ITEM}),
        ("PutItem", {}, {}),
        ("UpdateItem", {"ReturnValues": "NONE"}, {}),
        ("UpdateItem", {"ReturnValues": "ALL_NEW"}, {"Attributes": ITEM}),
        ("Query", {}, {"Items": [ITEM], "Count": 1, "LastEvaluatedKey": {"a": {"S": "a"}}}),
        ("Query", {"Select": "COUNT"}, {"Count": 0}),
        ("Scan", {}, {"Items": [], "Count": 0}),
        ("BatchGetItem", {}, {"Responses": {"t": [ITEM]}, "UnprocessedKeys": {}}),
        (
            "BatchGetItem",
            {},
            {"Responses": {}, "UnprocessedKeys": {"t": {"Keys": [{"a": {"S": "a"}}]}}},
        ),
        ("BatchWriteItem", {}, {"UnprocessedItems": {"t": [{"DeleteRequest": {}}]}}),
        ("DescribeTable", {}, {"Table": {}}),
        ("CreateBackup", {}, {"BackupDetails": BACKUP}),
        ("DescribeBackup", {}, {"BackupDescription": {"BackupDetails": BACKUP}}),
        ("ListBackups", {}, {"BackupSummaries": []}),
        (
            "ListBackups",
            {},
            {"BackupSummaries": [BACKUP | {"BackupSizeBytes": 0}], "LastEvaluatedBackupArn": "a"},
        ),
    ],
)
def test_an_answer_with_the_fields_of_its_operation_is_valid(
    operation: str, arguments: dict[str, Any], answer: dict[str, Any]
) -> None:
    """Items may have attributes of every type."""
    assert problem_with_answer(operation, arguments, answer) is None


@pytest.mark.parametrize(
    ("operation", "answer", "field"),
    [
        ("UpdateItem", {}, "Attributes"),
        ("UpdateItem", {"Attributes": {}}, "Attributes"),
        ("Query", {"Items": []}, "Count"),
        ("Query", {"Items": [], "Count": "many"}, "Count"),
        ("Query", {"Items": [], "Count": True}, "Count"),
        ("Query", {"Items": [], "Count": -1}, "Count"),
        ("Scan", {"Count": 1}, "Items"),
        ("Scan", {"Items": {}, "Count": 0}, "Items"),
        ("Scan", {"Items": [], "Count": 0, "LastEvaluatedKey": {}}, "LastEvaluatedKey"),
        ("BatchGetItem", {"UnprocessedKeys": {}}, "Responses"),
        ("BatchGetItem", {"Responses": {}}, "UnprocessedKeys"),
        ("BatchGetItem", {"Responses": {}, "UnprocessedKeys": {"t": {}}}, "UnprocessedKeys"),
        ("BatchGetItem", {"Responses": {}, "UnprocessedKeys": {"t": 1}}, "UnprocessedKeys"),
        ("BatchWriteItem", {}, "UnprocessedItems"),
        ("BatchWriteItem", {"UnprocessedItems": {"t": ["a"]}}, "UnprocessedItems"),
        ("DescribeTable", {}, "Table"),
        ("CreateTable", {}, "TableDescription"),
        ("DescribeTimeToLive", {"TimeToLiveDescription": "on"}, "TimeToLiveDescription"),
        ("UpdateTimeToLive", {}, "TimeToLiveSpecification"),
        ("DescribeContinuousBackups", {}, "ContinuousBackupsDescription"),
        ("CreateBackup", {}, "BackupDetails"),
        ("DescribeBackup", {}, "BackupDescription"),
        ("DescribeBackup", {"BackupDescription": {}}, "BackupDescription"),
        ("ListBackups", {}, "BackupSummaries"),
        ("ListBackups", {"BackupSummaries": BACKUP}, "BackupSummaries"),
        ("ListBackups", {"BackupSummaries": [1]}, "BackupSummaries"),
        (
            "ListBackups",
            {"BackupSummaries": [], "LastEvaluatedBackupArn": 1},
            "LastEvaluatedBackupArn",
        ),
        *(
            ("CreateBackup", {"BackupDetails": BACKUP | {field: wrong}}, "BackupDetails")
            for field in BACKUP
            for wrong in (None, 1)
        ),
        ("CreateBackup", {"BackupDetails": BACKUP | {"BackupSizeBytes": "1"}}, "BackupDetails"),
    ],
)
def test_a_field_that_is_missing_or_wrong_is_named(
    operation: str, answer: dict[str, Any], field: str
) -> None:
    """The error names the operation and the field."""
    message = problem_with_answer(operation, {"ReturnValues": "ALL_NEW"}, answer)
    assert message is not None
    assert operation in message
    assert field in message


@pytest.mark.parametrize(
    ("operation", "field"), [("GetItem", "Item"), ("UpdateItem", "Attributes")]
)
def test_an_item_with_another_key_is_not_accepted(operation: str, field: str) -> None:
    """A caching proxy may return the answer to another call."""
    arguments = {"Key": {"RequestID": {"S": "r1"}}, "ReturnValues": "ALL_NEW"}
    own, other = ({"RequestID": {"S": key}, "Status": {"S": "PENDING"}} for key in ("r1", "r2"))
    assert problem_with_answer(operation, arguments, {field: own}) is None
    assert problem_with_answer(operation, arguments, {field: other}) is not None


@pytest.mark.parametrize("item", WRONG, ids=str)
@pytest.mark.parametrize(
    ("operation", "answer"),
    [
        ("GetItem", lambda item: {"Item": item}),
        ("UpdateItem", lambda item: {"Attributes": item}),
        ("Query", lambda item: {"Items": [item], "Count": 1}),
        ("BatchGetItem", lambda item: {"Responses": {"t": [item]}, "UnprocessedKeys": {}}),
    ],
)
def test_an_item_with_wrong_types_is_not_accepted(operation: str, answer: Any, item: Any) -> None:
    """Otherwise the worker would fail the request as undecodable."""
    message = problem_with_answer(operation, {"ReturnValues": "ALL_NEW"}, answer(item))
    assert message is not None
    assert "wrong" in message
