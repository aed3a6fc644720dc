"""Decoding of a table's items."""

from __future__ import annotations

import pytest

from streamer_store import Undecodable
from streamer_store.decoding import ItemDecoder
from streamer_store.values import Item

GOOD: Item = {"ID": {"S": "good"}}
BAD: Item = {"ID": {"N": "1"}}


def decode(item: Item) -> str:
    if "S" not in item["ID"]:
        raise Undecodable("ID: expected text", key="bad")
    return str(item["ID"]["S"])


def test_a_list_leaves_out_and_reports_undecodable_items() -> None:
    """The report has the table and the key of each item that is left out."""
    reports: list[Undecodable] = []
    decoder = ItemDecoder(decode, table="things", report=reports.append)
    assert decoder.decode_all([GOOD, BAD, GOOD]) == ["good", "good"]
    assert [(error.table, error.key) for error in reports] == [("things", "bad")]


def test_one_undecodable_item_raises_with_its_location() -> None:
    """It is not reported, because the caller has the error."""
    reports: list[Undecodable] = []
    decoder = ItemDecoder(decode, table="things", report=reports.append)
    assert decoder.decode_one("get", GOOD) == "good"
    with pytest.raises(Undecodable) as caught:
        decoder.decode_one("get", BAD)
    error = caught.value
    assert (error.operation, error.table, error.key) == ("get", "things", "bad")
    assert reports == []
