"""The parser of answers returns what botocore's own parser returns."""

from __future__ import annotations

import base64
import json
from typing import Any

import anyio
import botocore.session
import pytest
from aiobotocore.parsers import AioResponseParserFactory
from hypothesis import given
from hypothesis import strategies as st

from properties.strategies import keys, payloads
from streamer_store.dynamo.answers import JsonBody
from streamer_store.dynamo.parser import AttributeParserFactory
from streamer_store.values import AttributeValue, encode

MODEL = botocore.session.get_session().get_service_model("dynamodb")
items = payloads.map(lambda payload: encode(payload)["M"])
SHAPES: dict[str, Any] = {
    "GetItem": lambda item: {"Item": item},
    "UpdateItem": lambda item: {"Attributes": item},
    "Query": lambda item: {"Items": [item, item], "Count": 2, "LastEvaluatedKey": item},
    "BatchGetItem": lambda item: {"Responses": {"t": [item]}, "UnprocessedKeys": {}},
    "BatchExecuteStatement": lambda item: {
        "Responses": [
            {"TableName": "t", "Item": item},
            {"Error": {"Code": "ValidationError", "Message": "m"}},
        ],
        "ConsumedCapacity": [{"TableName": "t", "CapacityUnits": 1.0}],
    },
}


def to_json(value: AttributeValue) -> dict[str, Any]:
    """Return a value as it is in the JSON of an answer: binary values are base64 text."""
    ((kind, content),) = value.items()
    match kind:
        case "B":
            return {kind: base64.b64encode(content).decode()}
        case "BS":
            return {kind: [base64.b64encode(blob).decode() for blob in content]}
        case "M":
            return {kind: {name: to_json(part) for name, part in content.items()}}
        case "L":
            return {kind: [to_json(part) for part in content]}
    return {kind: content}


def parsed(factory: AioResponseParserFactory, operation: str, body: Any, status: int = 200) -> Any:
    response = {"body": json.dumps(body).encode(), "headers": {}, "status_code": status}
    shape = MODEL.operation_model(operation).output_shape
    parser: Any = factory.create_parser("json")
    return anyio.run(parser.parse, response, shape)


@pytest.mark.parametrize("operation", SHAPES)
@given(item=items)
def test_answers(operation: str, item: dict[str, AttributeValue]) -> None:
    """Any item, in the answer to any operation, is parsed as botocore parses it."""
    wire = {name: to_json(value) for name, value in item.items()}
    body = SHAPES[operation](wire)
    assert parsed(AttributeParserFactory(), operation, body) == parsed(
        AioResponseParserFactory(), operation, body
    )


@given(item=items)
def test_the_old_item_of_a_failed_condition(item: dict[str, AttributeValue]) -> None:
    """The items in errors are parsed as well."""
    wire = {name: to_json(value) for name, value in item.items()}
    body = {
        "__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",
        "message": "The conditional request failed",
        "Item": wire,
    }
    assert parsed(AttributeParserFactory(), "UpdateItem", body, 400) == parsed(
        AioResponseParserFactory(), "UpdateItem", body, 400
    )


@given(name=keys, value=st.recursive(st.none() | st.text(), st.lists, max_leaves=3))
def test_a_malformed_value_is_left_to_the_checks_of_the_answer(name: str, value: Any) -> None:
    """What is no attribute value is returned unchanged, or refused."""
    try:
        answer = parsed(AttributeParserFactory(), "GetItem", {"Item": {name: {"S": value}}})
    except (TypeError, ValueError):
        return
    assert answer["Item"] == {name: {"S": value}}


@pytest.mark.parametrize("body", [b"[]", b"null", b"5", b"[" * 100_000, b"<html>", b"\xff"])
def test_an_error_without_a_document_is_parsed(body: bytes) -> None:
    """HTTP 413 is the only answer that is parsed although it need not be JSON."""
    response = {"body": JsonBody(body), "headers": {}, "status_code": 413}
    shape = MODEL.operation_model("PutItem").output_shape
    parser: Any = AttributeParserFactory().create_parser("json")
    answer = anyio.run(parser.parse, response, shape)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 413
