"""The arguments of DynamoDB's calls for the engine's operations."""

from __future__ import annotations

import re
from typing import Any

import pytest

from streamer_store.conditions import Absent, Below, Between, Condition, OneOf, Present
from streamer_store.dynamo import render
from streamer_store.engine import Delete, Put, Query, Scan, Update
from streamer_store.schema import CONNECTIONS, REQUESTS

BY_STATUS = REQUESTS.index("StatusIndex")
# DynamoDB Developer Guide, "Reserved words": those among our names.
RESERVED = ["Status", "TTL", "Action", "Result", "Error", "Connection"]
EXPRESSIONS = (
    *("ConditionExpression", "UpdateExpression", "KeyConditionExpression"),
    *("FilterExpression", "ProjectionExpression"),
)
WORDS = {
    *("SET", "REMOVE", "ADD", "DELETE", "AND", "BETWEEN", "NOT", "IN"),
    *("attribute_not_exists", "attribute_exists", "attribute_type", "if_not_exists"),
}
WHOLE: dict[str, dict[str, Any]] = {
    "put": render.put(
        Put(table=REQUESTS, item={"RequestID": {"S": "r1"}}, conditions=(Absent("RequestID"),))
    ),
    "update": render.update(
        Update(
            table=REQUESTS,
            key="r1",
            sets={"Status": {"S": "FAILED"}, "TTL": {"N": "5"}},
            if_not_exists={"Action": {"S": "echo"}},
            removes=("Result", "Error"),
            adds={"Beat": {"N": "1"}},
            deletes={"Cancel": {"SS": ["v1"]}},
            conditions=(
                OneOf("Status", ({"S": "PENDING"}, {"S": "RETRYING"})),
                OneOf("Version", ({"S": "v1"},)),
                Below("WriteSeq", {"N": "4"}),
                Between("TAT", {"N": "4"}, {"N": "5"}),
                Present("StartedAt"),
                Absent("Connection"),
            ),
        )
    ),
    "delete": render.delete(
        Delete(table=REQUESTS, key="r1", conditions=(OneOf("TTL", ({"N": "5"},)),))
    ),
    "query": render.query(Query(table=REQUESTS, index=BY_STATUS, value="PENDING")),
    "scan": render.scan(
        Scan(
            table=CONNECTIONS,
            attributes=("ConnectionID", "TTL"),
            not_between=("LastPing", "2026", "3"),
        )
    ),
}


def resolved(arguments: dict[str, Any], expression: str) -> str:
    """Return an expression with names and values in place of their placeholders."""
    text = str(arguments[expression])
    for name, attribute in arguments.get("ExpressionAttributeNames", {}).items():
        text = re.sub(rf"{name}\b", attribute, text)
    for name, value in arguments.get("ExpressionAttributeValues", {}).items():
        text = re.sub(rf"{name}\b", str(next(iter(value.values()))), text)
    return text


@pytest.mark.parametrize("arguments", WHOLE.values(), ids=WHOLE)
def test_expressions_have_placeholders_only(arguments: dict[str, Any]) -> None:
    """Names are `#` placeholders, and values are `:` placeholders."""
    for expression in EXPRESSIONS:
        words = re.findall(r"(?<![#:\w])[A-Za-z_]\w*", arguments.get(expression, ""))
        assert set(words) <= WORDS


@pytest.mark.parametrize("arguments", WHOLE.values(), ids=WHOLE)
def test_placeholders_are_exactly_those_used(arguments: dict[str, Any]) -> None:
    """DynamoDB refuses a placeholder that is undefined or not used."""
    text = " ".join(arguments.get(expression, "") for expression in EXPRESSIONS)
    names = arguments.get("ExpressionAttributeNames", {})
    values = arguments.get("ExpressionAttributeValues", {})
    assert set(re.findall(r"#\w+", text)) == set(names)
    assert set(re.findall(r":\w+", text)) == set(values)


@pytest.mark.parametrize("name", RESERVED)
def test_reserved_words_may_be_attribute_names(name: str) -> None:
    """They are in expressions as placeholders only."""
    arguments = render.update(
        Update(table=REQUESTS, key="r1", sets={name: {"S": "x"}}, conditions=(Absent(name),))
    )
    assert arguments["UpdateExpression"] == f"SET #{name} = :v0"
    assert arguments["ConditionExpression"] == f"attribute_not_exists(#{name})"
    assert arguments["ExpressionAttributeNames"] == {f"#{name}": name}


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (Absent("A"), "attribute_not_exists(A)"),
        (Present("A"), "attribute_exists(A)"),
        (OneOf("A", ({"S": "x"},)), "A = x"),
        (OneOf("A", ({"S": "x"}, {"N": "1"})), "A IN (x, 1)"),
        (Below("A", {"N": "1"}), "A < 1"),
        (Between("A", {"N": "1"}, {"N": "2"}), "attribute_type(A, N) AND A BETWEEN 1 AND 2"),
    ],
)
def test_each_condition_has_its_expression(condition: Condition, text: str) -> None:
    """Every condition is one of DynamoDB's comparisons or functions."""
    arguments = render.delete(Delete(table=REQUESTS, key="r1", conditions=(condition,)))
    assert resolved(arguments, "ConditionExpression") == text


def test_conditions_must_all_hold() -> None:
    """They are joined by AND, and a failed write returns the old item."""
    conditions = (Absent("A"), OneOf("B", ({"S": "x"},)))
    arguments = render.delete(Delete(table=REQUESTS, key="r1", conditions=conditions))
    assert resolved(arguments, "ConditionExpression") == "attribute_not_exists(A) AND B = x"
    assert arguments["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD"


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({"sets": {"A": {"S": "x"}, "B": {"N": "1"}}}, "SET A = x, B = 1"),
        ({"if_not_exists": {"A": {"S": "x"}}}, "SET A = if_not_exists(A, x)"),
        (
            {"sets": {"B": {"S": "y"}}, "if_not_exists": {"A": {"S": "x"}}},
            "SET B = y, A = if_not_exists(A, x)",
        ),
        ({"removes": ("A", "B")}, "REMOVE A, B"),
        ({"adds": {"A": {"N": "1"}}}, "ADD A 1"),
        ({"deletes": {"A": {"SS": ["x"]}}}, "DELETE A ['x']"),
        (
            {
                "sets": {"A": {"S": "x"}},
                "removes": ("B",),
                "adds": {"C": {"N": "1"}},
                "deletes": {"D": {"SS": ["y"]}},
            },
            "SET A = x REMOVE B ADD C 1 DELETE D ['y']",
        ),
    ],
)
def test_each_part_of_an_update_has_its_clause(parts: Any, text: str) -> None:
    """Empty parts have no clause, as DynamoDB refuses an empty one."""
    arguments = render.update(Update(table=REQUESTS, key="r1", **parts))
    assert resolved(arguments, "UpdateExpression") == text


def test_an_update_returns_the_whole_new_item() -> None:
    """A claim or a heartbeat needs no second read."""
    arguments = render.update(Update(table=REQUESTS, key="r1", removes=("A",)))
    assert arguments["ReturnValues"] == "ALL_NEW"
    assert arguments["Key"] == {"RequestID": {"S": "r1"}}


def test_an_update_that_is_not_returning_returns_no_item() -> None:
    """Progress writes do not return the payload each time."""
    arguments = render.update(Update(table=REQUESTS, key="r1", removes=("A",), returning=False))
    assert arguments["ReturnValues"] == "NONE"


def test_unused_arguments_are_not_sent() -> None:
    """Without conditions, the call has no names, values or conditions."""
    item = {"RequestID": {"S": "r1"}}
    assert render.put(Put(table=REQUESTS, item=item)) == {"Item": item}
    assert render.delete(Delete(table=REQUESTS, key="r1")) == {"Key": item}
    assert render.scan(Scan(table=REQUESTS)) == {"ConsistentRead": True}


def test_a_query_names_its_index_value_and_order() -> None:
    """The hash key of the index has the value, and the oldest item is first."""
    arguments = WHOLE["query"]
    assert arguments["IndexName"] == "StatusIndex"
    assert resolved(arguments, "KeyConditionExpression") == "Status = PENDING"
    assert arguments["ScanIndexForward"] is True
    assert {"Limit", "ExclusiveStartKey"}.isdisjoint(arguments)


@pytest.mark.parametrize(
    ("at_least", "at_most", "condition"),
    [
        ("2", None, "Status = PENDING AND CreatedAt >= 2"),
        (None, "3", "Status = PENDING AND CreatedAt <= 3"),
        ("2", "3", "Status = PENDING AND CreatedAt BETWEEN 2 AND 3"),
    ],
)
def test_the_bounds_of_a_query_are_one_condition(
    at_least: str | None, at_most: str | None, condition: str
) -> None:
    """DynamoDB refuses two conditions on the same key."""
    query = Query(
        table=REQUESTS,
        index=BY_STATUS,
        value="PENDING",
        at_least=None if at_least is None else {"S": at_least},
        at_most=None if at_most is None else {"S": at_most},
    )
    assert resolved(render.query(query), "KeyConditionExpression") == condition


def test_a_query_continues_after_its_start_key() -> None:
    """Order, limit and start key are passed on."""
    cursor = {"RequestID": {"S": "r1"}}
    query = Query(
        table=REQUESTS,
        index=BY_STATUS,
        value="PENDING",
        ascending=False,
        limit=5,
        exclusive_start_key=cursor,
    )
    arguments = render.query(query)
    assert arguments["ScanIndexForward"] is False
    assert arguments["Limit"] == 5
    assert arguments["ExclusiveStartKey"] == cursor


def test_a_scan_has_a_projection_and_a_filter() -> None:
    """The filter leaves out text between two bounds, but no other types."""
    arguments = WHOLE["scan"]
    assert resolved(arguments, "ProjectionExpression") == "ConnectionID, TTL"
    expected = "NOT (attribute_type(LastPing, S) AND LastPing BETWEEN 2026 AND 3)"
    assert resolved(arguments, "FilterExpression") == expected


def test_a_scan_may_read_a_few_items_only() -> None:
    """The limit is passed on."""
    arguments = render.scan(Scan(table=REQUESTS, limit=1))
    assert arguments == {"ConsistentRead": True, "Limit": 1}


def test_a_scan_of_a_segment_continues_after_its_start_key() -> None:
    """Segment and start key are passed on."""
    cursor = {"RequestID": {"S": "r1"}}
    arguments = render.scan(Scan(table=REQUESTS, segment=2, segments=4, exclusive_start_key=cursor))
    assert arguments == {
        "ConsistentRead": True,
        "Segment": 2,
        "TotalSegments": 4,
        "ExclusiveStartKey": cursor,
    }
