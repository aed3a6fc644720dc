"""Advice about global tables, and about keys of another layout."""

from __future__ import annotations

from typing import Any

import pytest

from streamer_store.dynamo.advice import about_key, about_replicas

REPLICAS = [{"RegionName": "us-east-1"}, {"RegionName": "eu-west-1"}]


@pytest.mark.parametrize(
    "description",
    [
        {"Replicas": REPLICAS},
        {"Replicas": REPLICAS, "MultiRegionConsistency": "EVENTUAL"},
        {"GlobalTableVersion": "2017.11.29"},
        {"GlobalTableVersion": "2019.11.21", "Replicas": []},
        {"Replicas": [{}]},
    ],
)
def test_a_global_table_has_a_warning(description: dict[str, Any]) -> None:
    """A table is global if it has replicas, or a version of global tables."""
    warning = about_replicas(description)
    assert warning is not None
    assert "exclusive only inside one Region" in warning
    assert description.get("Replicas") != REPLICAS or "eu-west-1, us-east-1" in warning


@pytest.mark.parametrize(
    "description",
    [{}, {"Replicas": []}, {"Replicas": REPLICAS, "MultiRegionConsistency": "STRONG"}],
)
def test_other_tables_have_no_warning(description: dict[str, Any]) -> None:
    """Conditions hold in all Regions of a table with strong consistency."""
    assert about_replicas(description) is None


@pytest.mark.parametrize(
    ("names", "of_go"),
    [
        (["PK", "SK"], True),
        (["pk", "sk"], True),
        (["request_id"], True),
        (["id"], False),
        (["Host"], False),
        (["RequestID", "CreatedAt"], False),
    ],
)
def test_the_layout_of_go_is_recognised(names: list[str], of_go: bool) -> None:  # noqa: FBT001
    """The name of the first key attribute decides."""
    text = about_key([{"AttributeName": name} for name in names], "RequestID")
    assert ("Go implementation" in text) is of_go
    assert "cannot be changed in place" in text
