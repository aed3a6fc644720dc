"""The names of the four tables."""

from __future__ import annotations

import doctest

import pytest

from streamer_store import TableNames, ValidationError, table_names
from streamer_store.schema import REQUESTS, TABLES

UNRELATED = {
    "connections": "ws-connections",
    "requests": "jobs",
    "subscriptions": "Interest.List",
    "workers": "prod_fleet",
}


def refused(prefix: str = "streamer_", **own_names: str) -> str:
    with pytest.raises(ValidationError) as caught:
        TableNames.from_prefix(prefix, own_names)
    return caught.value.message


def test_the_example_runs() -> None:
    """It prints what its docstring says."""
    results = doctest.testmod(table_names)
    assert (results.attempted, results.failed) == (2, 0)


def test_names_are_the_prefix_and_the_name_in_the_schema() -> None:
    """Such names are printed as their prefix."""
    names = TableNames.from_prefix("p-")
    assert list(names) == ["p-connections", "p-requests", "p-subscriptions", "p-workers"]
    assert (names.prefix, str(names)) == ("p-", "p-…")
    assert [names.of(table) for table in TABLES] == list(names)
    assert list(TableNames.from_prefix("")) == [table.name for table in TABLES]


def test_each_table_may_have_a_name_of_its_own() -> None:
    """All names are printed if they have no prefix in common."""
    some = TableNames.from_prefix("p_", {"requests": "jobs"})
    assert (some.requests, some.workers, some.prefix) == ("jobs", "p_workers", None)
    unrelated = TableNames.from_prefix("p_", UNRELATED)
    assert unrelated.as_dict() == UNRELATED
    assert unrelated.of(REQUESTS) == "jobs"
    assert str(unrelated) == "ws-connections, jobs, Interest.List, prod_fleet"


def test_four_names_with_one_prefix_are_those_of_the_prefix() -> None:
    """However they were set."""
    names = TableNames.from_prefix("p_", {table.name: f"q_{table.name}" for table in TABLES})
    assert names == TableNames.from_prefix("q_")
    assert names.prefix == "q_"


@pytest.mark.parametrize("name", ["", "ab", "x" * 256, "a b", "a/b", "täbel", "jobs\n"])
def test_a_name_that_dynamodb_refuses_is_refused(name: str) -> None:
    """The text has the table."""
    assert "requests: " in (text := refused(requests=name))
    assert "is not 3 to 255 characters of A-Z, a-z, 0-9, _ . and -" in text


def test_one_name_for_two_tables_is_refused() -> None:
    """Also if one of them is made from the prefix. The text says what to do."""
    text = refused(requests="jobs", workers="jobs")
    assert text.endswith("requests and workers have one name, jobs: give each a name of its own")
    assert "connections and requests have one name" in refused("p_", requests="p_connections")


def test_all_faults_are_reported_together() -> None:
    """An unknown table is reported with the nearest one."""
    text = refused("a b", request="jobs", workers="w")
    assert "prefix: 'a b' is not" in text
    assert "'request' is no table; the nearest is requests" in text
    assert "workers: 'w' is not" in text
