"""The text and the parameters of statements."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer_store.conditions import Absent, Below, Between, Condition, OneOf, Present
from streamer_store.dynamo import partiql
from streamer_store.engine import Put, Update
from streamer_store.schema import REQUESTS

_QUOTED = re.compile(r'"(?:[^"]|"")*"' + r"|'(?:[^']|'')*'")
names = st.text(min_size=1, max_size=10)
values = st.builds(lambda text: {"S": text}, st.text(max_size=5))
conditions: st.SearchStrategy[Condition] = st.one_of(
    st.builds(Absent, names),
    st.builds(Present, names),
    st.builds(Below, names, values),
    st.builds(Between, names, values, values),
    st.builds(OneOf, names, st.lists(values, min_size=1, max_size=4).map(tuple)),
)
updates = st.builds(
    Update,
    table=st.just(REQUESTS),
    key=names,
    sets=st.dictionaries(names, values, max_size=4),
    removes=st.lists(names, max_size=3).map(tuple),
    conditions=st.lists(conditions, max_size=4).map(tuple),
    returning=st.booleans(),
)
puts = st.builds(
    Put, table=st.just(REQUESTS), item=st.dictionaries(names, values, min_size=1, max_size=5)
)


def test_a_claim_is_this_statement() -> None:
    """One keyword stands before each attribute, and the parameters are in the text's order."""
    write = Update(
        table=REQUESTS,
        key="r1",
        sets={"Status": {"S": "PROCESSING"}, "Version": {"S": "v1"}},
        removes=("Error", "Result"),
        conditions=(
            OneOf("Status", ({"S": "PENDING"}, {"S": "RETRYING"})),
            OneOf("Version", ({"S": "v0"},)),
            Absent("Result"),
            Present("Action"),
            Below("WriteSeq", {"N": "3"}),
        ),
    )
    assert partiql.statement(write, "streamer_requests") == {
        "Statement": 'UPDATE "streamer_requests" SET "Status"=? SET "Version"=? REMOVE "Error"'
        ' REMOVE "Result" WHERE "RequestID"=? AND "Status" IN [?,?] AND "Version"=?'
        ' AND attribute_not_exists("Result") AND attribute_exists("Action") AND "WriteSeq"<?'
        " RETURNING ALL NEW *",
        "Parameters": [
            {"S": "PROCESSING"},
            {"S": "v1"},
            {"S": "r1"},
            {"S": "PENDING"},
            {"S": "RETRYING"},
            {"S": "v0"},
            {"N": "3"},
        ],
    }


def test_a_new_request_is_this_statement() -> None:
    """INSERT refuses an existing key by itself, so the condition is not in the text."""
    item = {"RequestID": {"S": "r1"}, "It's": {"N": "1"}}
    write = Put(table=REQUESTS, item=item, conditions=(Absent("RequestID"),))
    assert partiql.statement(write, 'a"b') == {
        "Statement": """INSERT INTO "a""b" VALUE {'RequestID':?,'It''s':?}""",
        "Parameters": [{"S": "r1"}, {"N": "1"}],
    }


@given(write=st.one_of(updates, puts))
def test_a_statement_has_a_placeholder_for_each_parameter(write: Put | Update) -> None:
    """DynamoDB Local ignores parameters that are too many, so only the text can show it."""
    statement = partiql.statement(write, "t")
    placeholders = _QUOTED.sub("", statement["Statement"]).count("?")
    assert placeholders == len(statement["Parameters"])


@pytest.mark.parametrize("name", ['"', "?", "a b", "Ä.b", 'x"="y'])
def test_names_are_quoted(name: str) -> None:
    """A name may contain any character."""
    write = Update(table=REQUESTS, key="r1", sets={name: {"S": "v"}}, returning=False)
    quoted = name.replace('"', '""')
    text = partiql.statement(write, "t")["Statement"]
    expected = f'UPDATE "t" SET "{quoted}"=? WHERE "RequestID"=?'  # noqa: S608  no SQL
    assert text == expected
