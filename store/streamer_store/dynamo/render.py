"""Convert the engine's operations to the arguments of DynamoDB's calls (pure).

Every attribute is named by a placeholder (`#Status`), as many names are reserved words.
"""

from __future__ import annotations

from typing import Any

from streamer_store.conditions import Absent, Below, Between, Condition, OneOf, Present
from streamer_store.engine import Check, Delete, Put, Query, Scan, Update
from streamer_store.schema import Table
from streamer_store.values import AttributeValue


class _Expression:
    """Collects the names and values that expressions use, with their placeholders."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self._placeholders: dict[str, str] = {}
        self.values: dict[str, AttributeValue] = {}

    def name(self, attribute: str) -> str:
        placeholder = self._placeholders.get(attribute)
        if placeholder is None:
            # A placeholder has letters, digits and underscores only, and a name may have others.
            is_plain = attribute.isascii() and attribute.isidentifier()
            placeholder = f"#{attribute}" if is_plain else f"#_{len(self.names)}"
            self._placeholders[attribute] = placeholder
            self.names[placeholder] = attribute
        return placeholder

    def value(self, value: AttributeValue) -> str:
        placeholder = f":v{len(self.values)}"
        self.values[placeholder] = value
        return placeholder

    def condition(self, condition: Condition) -> str:
        name = self.name(condition.name)
        match condition:
            case Absent():
                return f"attribute_not_exists({name})"
            case Present():
                return f"attribute_exists({name})"
            case OneOf(values=(value,)):
                return f"{name} = {self.value(value)}"
            case OneOf(values=values):
                return f"{name} IN ({', '.join(self.value(value) for value in values)})"
            case Below(value=value):
                return f"{name} < {self.value(value)}"
            case Between(low=low, high=high):
                # The type is checked for moto, which fails where it compares text with a number.
                bounds = f"{self.value(low)} AND {self.value(high)}"
                return (
                    f"attribute_type({name}, {self.value({'S': 'N'})}) AND {name} BETWEEN {bounds}"
                )

    def conditions(self, conditions: tuple[Condition, ...]) -> dict[str, Any]:
        if not conditions:
            return {}
        return {
            "ConditionExpression": " AND ".join(map(self.condition, conditions)),
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }

    def placeholders(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {}
        if self.names:
            arguments["ExpressionAttributeNames"] = self.names
        if self.values:
            arguments["ExpressionAttributeValues"] = self.values
        return arguments


def put(write: Put) -> dict[str, Any]:
    """Return the arguments of PutItem, except TableName."""
    expression = _Expression()
    conditions = expression.conditions(write.conditions)
    return {"Item": write.item} | conditions | expression.placeholders()


def delete(write: Delete | Check) -> dict[str, Any]:
    """Return the arguments of DeleteItem, or of a ConditionCheck, except TableName."""
    expression = _Expression()
    conditions = expression.conditions(write.conditions)
    key = {write.table.hash_key: {"S": write.key}}
    return {"Key": key} | conditions | expression.placeholders()


def update(write: Update) -> dict[str, Any]:
    """Return the arguments of UpdateItem, except TableName."""
    expression = _Expression()
    clauses = {
        "SET": [
            f"{expression.name(name)} = {expression.value(value)}"
            for name, value in write.sets.items()
        ]
        + [
            f"{expression.name(name)} = "
            f"if_not_exists({expression.name(name)}, {expression.value(value)})"
            for name, value in write.if_not_exists.items()
        ],
        "REMOVE": [expression.name(name) for name in write.removes],
        "ADD": _pairs(expression, write.adds),
        "DELETE": _pairs(expression, write.deletes),
    }
    update_expression = " ".join(
        f"{keyword} {', '.join(parts)}" for keyword, parts in clauses.items() if parts
    )
    return {
        "Key": {write.table.hash_key: {"S": write.key}},
        "UpdateExpression": update_expression,
        "ReturnValues": "ALL_NEW" if write.returning else "NONE",
        **expression.conditions(write.conditions),
        **expression.placeholders(),
    }


def projection(table: Table, attributes: tuple[str, ...]) -> dict[str, Any]:
    """Return the arguments that have a read return these attributes and the hash key.

    Empty: it returns all.
    """
    if not attributes:
        return {}
    expression = _Expression()
    names = [expression.name(name) for name in dict.fromkeys((table.hash_key, *attributes))]
    return {"ProjectionExpression": ", ".join(names)} | expression.placeholders()


def query(read: Query) -> dict[str, Any]:
    """Return the arguments of Query, except TableName."""
    expression = _Expression()
    key = f"{expression.name(read.index.hash_key)} = {expression.value({'S': read.value})}"
    if read.index.range_key is not None:
        key += _range_condition(expression, read.index.range_key, read)
    arguments: dict[str, Any] = {
        "IndexName": read.index.name,
        "KeyConditionExpression": key,
        "ScanIndexForward": read.ascending,
    }
    if read.count_only:
        arguments["Select"] = "COUNT"
    elif read.attributes:
        names = [expression.name(name) for name in read.attributes]
        arguments["ProjectionExpression"] = ", ".join(names)
    if read.limit is not None:
        arguments["Limit"] = read.limit
    if read.exclusive_start_key is not None:
        arguments["ExclusiveStartKey"] = read.exclusive_start_key
    return arguments | expression.placeholders()


def _range_condition(expression: _Expression, range_key: str, read: Query) -> str:
    low, high = read.at_least, read.at_most
    if low is not None and high is not None:  # DynamoDB takes one condition on a key.
        bounds = f"{expression.value(low)} AND {expression.value(high)}"
        return f" AND {expression.name(range_key)} BETWEEN {bounds}"
    if low is not None:
        return f" AND {expression.name(range_key)} >= {expression.value(low)}"
    if high is not None:
        return f" AND {expression.name(range_key)} <= {expression.value(high)}"
    return ""


def scan(read: Scan) -> dict[str, Any]:
    """Return the arguments of Scan, except TableName."""
    expression = _Expression()
    arguments: dict[str, Any] = {"ConsistentRead": True}
    if read.segments > 1:
        arguments |= {"Segment": read.segment, "TotalSegments": read.segments}
    if read.attributes:
        names = [expression.name(name) for name in read.attributes]
        arguments["ProjectionExpression"] = ", ".join(names)
    if read.not_between is not None:
        attribute, low, high = read.not_between
        name = expression.name(attribute)
        is_text = f"attribute_type({name}, {expression.value({'S': 'S'})})"
        bounds = f"{expression.value({'S': low})} AND {expression.value({'S': high})}"
        # The type is checked for moto, which fails where it compares a number with text.
        arguments["FilterExpression"] = f"NOT ({is_text} AND {name} BETWEEN {bounds})"
    if read.limit is not None:
        arguments["Limit"] = read.limit
    if read.exclusive_start_key is not None:
        arguments["ExclusiveStartKey"] = read.exclusive_start_key
    return arguments | expression.placeholders()


def _pairs(expression: _Expression, parts: Any) -> list[str]:
    return [f"{expression.name(name)} {expression.value(value)}" for name, value in parts.items()]
