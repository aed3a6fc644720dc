"""Unique keys of many requests, wrong ones, and items that cannot be read."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from contract.request_steps import put_raw, raw
from contract.test_unique import HOUR, ID, KEY, enqueue, request
from streamer_store import (
    AsyncRequest,
    Enqueued,
    SomeRefused,
    Stores,
    Undecodable,
    ValidationError,
)
from support import ManualClock

pytestmark = pytest.mark.anyio


async def test_enqueue_many_takes_keys(stores: Stores) -> None:
    """The same key twice, and one that is there already: each result has the request."""
    await enqueue(stores)
    requests = [request(unique_key=key, payload={"n": 2}) for key in (KEY, "a", "a", "b")]
    summary = await stores.requests.enqueue_many(requests)
    assert summary.done == 4
    enqueued = [record.enqueued for record in summary.records]
    assert enqueued[0] is Enqueued.EXISTS
    assert sorted(str(one) for one in enqueued[1:3]) == ["created", "exists"]
    assert summary.records[1] == summary.records[2]
    replaced = await stores.requests.enqueue_many(requests[:1], on_conflict="replace_waiting")
    assert replaced.records[0].enqueued is Enqueued.REPLACED
    assert (await stores.requests.get(ID)).payload == {"n": 2}


_BAD: dict[str, tuple[dict[str, Any], str]] = {
    "empty": ({"unique_key": ""}, "unique_key: must not be empty"),
    "number": ({"unique_key": 7}, "unique_key: must be text, not int"),
    "long": ({"unique_key": "é" * 1024}, "unique_key: has 2048 bytes, the limit is 1024"),
    "control": ({"unique_key": "a\nb"}, r"has the control character '\\n' at position 1"),
    "surrogate": ({"unique_key": "a\ud800"}, "unique_key: has half a surrogate pair"),
    "zero": ({"unique_key": "a", "unique_for": timedelta()}, "unique_for: must be a timedelta ab"),
    "negative": ({"unique_key": "a", "unique_for": -HOUR}, "unique_for: must be a timedelta above"),
    "month": ({"unique_key": "a", "unique_for": timedelta(days=31)}, "of 30 days at most, not"),
    "seconds": ({"unique_key": "a", "unique_for": 60}, "unique_for: must be a timedelta, not 60"),
    "no key": ({"unique_for": HOUR}, "unique_for: needs a `unique_key`"),
    "conflict": ({"unique_key": "a", "on_conflict": "replace"}, "must be keep or replace_waiting"),
    "no conflict": ({"on_conflict": "replace_waiting"}, "on_conflict: needs a `unique_key`"),
}


@pytest.mark.parametrize("bad", _BAD)
async def test_a_wrong_key_is_refused_in_words(stores: Stores, bad: str) -> None:
    """With the name of the argument, and nothing is stored."""
    arguments, text = _BAD[bad]
    with pytest.raises(ValidationError, match=text):
        await stores.requests.enqueue(request(), **arguments)
    assert await stores.requests.dequeue(10) == []


async def test_a_key_does_not_go_with_another_id(stores: Stores) -> None:
    """Nor with the transactions, nor twice. Ids of keys cannot be chosen."""
    keyed = request(unique_key="a")
    with pytest.raises(ValidationError, match="request_id: cannot be combined with `unique_key`"):
        await stores.requests.enqueue(request(request_id="r1"), unique_key="a")
    with pytest.raises(ValidationError, match="unique_key: is set already"):
        await stores.requests.enqueue(keyed, unique_key="b")
    with pytest.raises(ValidationError, match="unique#, which is reserved"):
        await stores.requests.enqueue(request(request_id=ID))
    with pytest.raises(ValidationError, match="unique_key: cannot be used with enqueue_all"):
        await stores.requests.enqueue_all([keyed])
    with pytest.raises(ValidationError, match="use `enqueue`, and then `subscribe`"):
        await stores.requests.enqueue_with_subscriptions(keyed, {})
    with pytest.raises(SomeRefused, match="cannot be combined"):
        await stores.requests.enqueue_many([request(unique_key="a", request_id="r1")])
    with pytest.raises(ValidationError, match="on_conflict: must be"):
        await stores.requests.enqueue_many([keyed], on_conflict="no")  # type: ignore[arg-type]
    assert await stores.requests.dequeue(10) == []


_BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "status": ({"Status": {"S": "LATER"}}, "Status: 'LATER' is not known"),
    "window": (
        {"Status": {"S": "COMPLETED"}, "UniqueFor": {"S": "long"}, "ProcessingEnded": {"S": "x"}},
        "UniqueFor: expected a number of seconds, found str",
    ),
    "end": ({"Status": {"S": "COMPLETED"}, "UniqueFor": {"N": "60"}}, "ProcessingEnded is missing"),
    "tenant": ({"TenantID": {"S": "other"}}, "TenantID is not the one that gives this id"),
    "payload": ({"Payload": {"S": "text"}}, "Payload: expected a map"),
}


@pytest.mark.parametrize("broken", _BROKEN)
async def test_an_item_that_cannot_be_read_is_reported(stores: Stores, broken: str) -> None:
    """It is neither taken for free nor returned: the error names it."""
    attributes, text = _BROKEN[broken]
    await enqueue(stores)
    item = {**await raw(stores, ID), **attributes}
    await put_raw(stores, item)
    with pytest.raises(Undecodable, match=text) as raised:
        await enqueue(stores, n=2)
    assert (raised.value.key, raised.value.operation) == (ID, "enqueue")
    assert await raw(stores, ID) == item


@pytest.mark.parametrize("status", ["FAILED", "PENDING"])
async def test_a_broken_item_is_replaced_where_its_status_says_so(
    stores: Stores, clock: ManualClock, status: str
) -> None:
    """One that failed, as a claim fails what it cannot read, and one that waits, if asked for."""
    await enqueue(stores)
    item = {**await raw(stores, ID), "Payload": {"S": "text"}, "Status": {"S": status}}
    item.pop("Version")
    await put_raw(stores, {**item, "CreatedAt": {"S": "long ago"}})
    stored = await enqueue(stores, n=2, on_conflict="replace_waiting")
    assert (stored.payload, stored.created_at) == ({"n": 2}, clock.now())
    assert stored == await stores.requests.get(ID)


async def test_one_that_ttl_has_deleted_is_created_again(stores: Stores) -> None:
    """As if there had been none."""
    await enqueue(stores)
    await stores.requests.delete(ID)
    assert (await enqueue(stores, n=2)).enqueued is Enqueued.CREATED


async def test_of_many_with_one_key_the_last_replaces_those_before(stores: Stores) -> None:
    """25 are written at once, and those of one key in the order in which they were given."""
    requests = [
        AsyncRequest(
            action="index", unique_key="doc", payload={"revision": number, "text": "x" * number}
        )
        for number in range(40)
    ]
    summary = await stores.requests.enqueue_many(requests, on_conflict="replace_waiting")
    assert summary.done == 40
    (claim,) = await stores.requests.dequeue(10)
    assert claim.request.payload == {"revision": 39, "text": "x" * 39}
