"""The conditional write of each change: what it sets, removes and requires."""

from __future__ import annotations

from typing import Any

import pytest

from streamer_store import RequestStatus
from streamer_store.conditions import OneOf
from streamer_store.engine import Update
from streamer_store.schema import REQUESTS
from streamer_store.transitions import FOLLOWS, WAITING
from unit.store.expected_writes import FRESH, MOVES, UPDATES


@pytest.mark.parametrize(
    ("update", "status", "sets", "removes", "conditions"), MOVES.values(), ids=MOVES
)
def test_each_change_is_exactly_this_write(
    update: Update, status: str, sets: Any, removes: set[str], conditions: Any
) -> None:
    """It sets Status, a new Version and these attributes only, under these conditions.

    Proves VERSION-1, FENCE-1 and RESCUE-3.
    """
    assert update.sets == {"Status": {"S": status}, "Version": {"S": FRESH}} | sets
    assert set(update.removes) == removes
    assert update.conditions == conditions


@pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)
def test_no_write_removes_the_version(update: Update) -> None:
    """Without a Version the next claim could not be distinguished from this one.

    Proves VERSION-1.
    """
    assert "Version" not in update.removes


@pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)
def test_an_attribute_is_in_one_part_of_a_write(update: Update) -> None:
    """DynamoDB refuses an update with overlapping paths."""
    assert set(update.sets).isdisjoint(update.removes)
    assert len(set(update.removes)) == len(update.removes)


@pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)
def test_every_write_has_the_key_of_its_request(update: Update) -> None:
    """The key is that of the request, and no write changes it."""
    assert (update.table, update.key) == (REQUESTS, "r1")
    assert "RequestID" not in {*update.sets, *update.removes}


@pytest.mark.parametrize("name", UPDATES)
def test_only_some_writes_return_the_item(name: str) -> None:
    """Claims and what operators change return it. For the others it would only cost."""
    assert UPDATES[name].returning == name.startswith(("claim", "cancel", "redrive", "reschedule"))


@pytest.mark.parametrize("name", MOVES)
def test_every_change_of_status_is_allowed(name: str) -> None:
    """The status that is required and the one that is set are a pair of FOLLOWS."""
    update = MOVES[name][0]
    required = next(condition for condition in update.conditions if condition.name == "Status")
    assert isinstance(required, OneOf)
    for value in required.values:
        assert RequestStatus(update.sets["Status"]["S"]) in FOLLOWS[RequestStatus(value["S"])]


@pytest.mark.parametrize("name", MOVES)
def test_waiting_requests_have_no_worker_and_ended_ones_keep_it(name: str) -> None:
    """PENDING, RETRYING and SCHEDULED remove WorkerID. Terminal statuses keep it."""
    update = MOVES[name][0]
    status = update.sets["Status"]["S"]
    if status != "PROCESSING":
        assert ("WorkerID" in update.removes) == (status in {*WAITING})
        assert "WorkerID" not in update.sets
