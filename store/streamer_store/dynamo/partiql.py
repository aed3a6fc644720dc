"""Convert conditional writes to the statements of BatchExecuteStatement (pure).

A statement has the same effect as the PutItem or UpdateItem in `render.py`, for a write that
`write_queue.can_share_call` accepts (held by `tests/properties/test_statements.py`).

Syntax: DynamoDB Developer Guide, "PartiQL statements for DynamoDB". One keyword stands before each
attribute (`SET "a"=? SET "b"=? REMOVE "c"`). Names are quoted, as many are reserved words.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, NamedTuple

from streamer_store.conditions import Absent, Below, Between, Condition, OneOf, Present
from streamer_store.engine import Delete, Put, Write
from streamer_store.values import AttributeValue

_CACHED_TEXTS: Final = 512
_INSERT_MARK: Final = "'"

_ConditionShape = tuple[type[Condition], str, int]


class _UpdateShape(NamedTuple):
    """What the text of an update depends on."""

    table_name: str
    hash_key: str
    sets: tuple[str, ...]
    removes: tuple[str, ...]
    conditions: tuple[_ConditionShape, ...]
    returning: bool


def statement(write: Write, table_name: str) -> dict[str, Any]:
    """Return the `Statement` and `Parameters` of a write. `table_name`: the full name."""
    if isinstance(write, Put):
        return {
            "Statement": _insert_text(table_name, tuple(write.item)),
            "Parameters": list(write.item.values()),
        }
    if isinstance(write, Delete):
        values: list[AttributeValue] = [{"S": write.key}]
        shapes = tuple([_add_condition(condition, values) for condition in write.conditions])
        text = _delete_text(table_name, write.table.hash_key, shapes)
        return {"Statement": text, "Parameters": values}
    parameters = [*write.sets.values(), {"S": write.key}]
    shape = _UpdateShape(
        table_name,
        write.table.hash_key,
        tuple(write.sets),
        write.removes,
        tuple([_add_condition(condition, parameters) for condition in write.conditions]),
        write.returning,
    )
    return {"Statement": _update_text(shape), "Parameters": parameters}


def _add_condition(condition: Condition, parameters: list[AttributeValue]) -> _ConditionShape:
    """Append the values of a condition, and return its kind, name and number of values."""
    match condition:
        case OneOf(values=values):
            parameters.extend(values)
            return OneOf, condition.name, len(values)
        case Below(value=value):
            parameters.append(value)
            return Below, condition.name, 1
        case Between(low=low, high=high):
            parameters += low, high
            return Between, condition.name, 2
    return type(condition), condition.name, 0


@lru_cache(_CACHED_TEXTS)
def _insert_text(table_name: str, names: tuple[str, ...]) -> str:
    pairs = ",".join([f"{_quoted(name, mark=_INSERT_MARK)}:?" for name in names])
    return f"INSERT INTO {_quoted(table_name)} VALUE {{{pairs}}}"


@lru_cache(_CACHED_TEXTS)
def _update_text(shape: _UpdateShape) -> str:
    clauses = [f"SET {_quoted(name)}=?" for name in shape.sets]
    clauses += [f"REMOVE {_quoted(name)}" for name in shape.removes]
    tests = _tests(shape.hash_key, shape.conditions)
    text = f"UPDATE {_quoted(shape.table_name)} {' '.join(clauses)} WHERE {tests}"
    return f"{text} RETURNING ALL NEW *" if shape.returning else text


@lru_cache(_CACHED_TEXTS)
def _delete_text(table_name: str, hash_key: str, conditions: tuple[_ConditionShape, ...]) -> str:
    return " ".join(["DELETE FROM", _quoted(table_name), "WHERE", _tests(hash_key, conditions)])


def _tests(hash_key: str, conditions: tuple[_ConditionShape, ...]) -> str:
    return " AND ".join([f"{_quoted(hash_key)}=?", *map(_condition_text, conditions)])


def _condition_text(shape: _ConditionShape) -> str:
    kind, name, count = shape
    quoted = _quoted(name)
    if kind is Absent:
        return f"attribute_not_exists({quoted})"
    if kind is Present:
        return f"attribute_exists({quoted})"
    if kind is Below:
        return f"{quoted}<?"
    if kind is Between:
        return f"{quoted} BETWEEN ? AND ?"
    return f"{quoted}=?" if count == 1 else f"{quoted} IN [{','.join('?' * count)}]"


def _quoted(name: str, *, mark: str = '"') -> str:
    return f"{mark}{name.replace(mark, mark * 2)}{mark}"
