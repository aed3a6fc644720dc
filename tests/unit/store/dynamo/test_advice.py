"""Which tables are global, and which key is of another layout."""

from __future__ import annotations

from typing import Any

import pytest

from streamer_store.dynamo.advice import about_key, about_replicas

REPLICAS = [{"RegionName": "us-east-1"}, {"RegionName": "eu-west-1"}]


@pytest.mark.parametrize(
    "found",
    [
        {"Replicas": REPLICAS},
        {"Replicas": REPLICAS, "MultiRegionConsistency": "EVENTUAL"},
        {"GlobalTableVersion": "2017.11.29"},
        {"GlobalTableVersion": "2019.11.21", "Replicas": []},
        {"Replicas": [{}]},
    ],
)
def test_a_global_table_is_warned_of(found: dict[str, Any]) -> None:
    """By its replicas, or by the version of global tables that it has."""
    warning = about_replicas(found)
    assert warning is not None
    assert "exclusive only inside one Region" in warning
    assert found.get("Replicas") != REPLICAS or "eu-west-1, us-east-1" in warning


@pytest.mark.parametrize(
    "found",
    [{}, {"Replicas": []}, {"Replicas": REPLICAS, "MultiRegionConsistency": "STRONG"}],
)
def test_other_tables_are_not(found: dict[str, Any]) -> None:
    """With strong consistency over Regions a condition holds in all of them."""
    assert about_replicas(found) is None


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
def test_the_layout_of_go_is_told_from_others(names: list[str], of_go: bool) -> None:  # noqa: FBT001
    """By the name of its first key attribute."""
    text = about_key([{"AttributeName": name} for name in names], "RequestID")
    assert ("Go implementation" in text) is of_go
    assert "cannot be changed in place" in text
