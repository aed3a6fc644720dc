"""A write does the same to any item as a statement of a batch and as a call of its own."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import cast

import pytest
from anyio.from_thread import BlockingPortal
from hypothesis import given, settings
from hypothesis import strategies as st

from properties.strategies import values
from streamer_store import InvalidInput, ItemTooLarge
from streamer_store.conditions import Absent, Below, Between, Condition, OneOf, Present
from streamer_store.engine import (
    BatchEngine,
    ConditionFailed,
    Delete,
    Engine,
    Put,
    Refusal,
    Update,
    Write,
)
from streamer_store.schema import SUBSCRIPTIONS, WORKERS, Table
from streamer_store.transfer.comparing import comparable
from streamer_store.values import AttributeValue, Item, encode
from streamer_store.write_queue import can_share_call

pytestmark = pytest.mark.local

# Many are reserved words. An UpdateItem names no others: see `render.py`.
NAMES = ("Version", "Status", "Value", "Action", "Connection", "Order", "TTL", "plain")
encoded = st.one_of(values.map(encode), st.just({"S": "same"}), st.just({"N": "7"}))
attributes = st.dictionaries(st.sampled_from(NAMES), encoded, max_size=6)
conditions: st.SearchStrategy[Condition] = st.one_of(
    st.builds(Absent, st.sampled_from(NAMES)),
    st.builds(Present, st.sampled_from(NAMES)),
    st.builds(OneOf, st.sampled_from(NAMES), st.lists(encoded, min_size=1, max_size=3).map(tuple)),
    st.builds(Below, st.sampled_from(NAMES), st.integers(-9, 9).map(encode)),
    st.builds(
        Between,
        st.sampled_from(NAMES),
        st.integers(-9, 5).map(encode),
        st.integers(6, 9).map(encode),
    ),
)


@st.composite
def updates(draw: st.DrawFn, stored: dict[str, AttributeValue]) -> Update:
    """Draw an update that may share a call, most often one whose conditions hold."""
    sets = draw(attributes)
    sets["Version"] = draw(encoded)
    removes = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4))
    holding: list[Condition] = [OneOf(name, (value,)) for name, value in stored.items()]
    holding += [Present(name) for name in stored]
    holding += [Absent(name) for name in NAMES if name not in stored]
    drawn = draw(st.lists(st.one_of(st.sampled_from(holding), conditions), max_size=3))
    return Update(
        table=WORKERS,
        key="",
        sets=sets,
        removes=tuple(name for name in removes if name not in sets),
        conditions=(Present("WorkerID"), *drawn),
        returning=draw(st.booleans()),
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, AttributeValue] | None, Update]:
    """Draw an item, or None for no item, and an update of it."""
    stored = draw(attributes)
    update = draw(updates(stored))
    return (None if draw(st.integers(0, 6)) == 0 else stored), update


async def _alone(engine: Engine, write: Write) -> object:
    """Return what the write does in a call of its own, in the terms of a batch."""
    try:
        match write:
            case Update():
                return await engine.update(write)
            case Put():
                await engine.put(write)
            case Delete():
                await engine.delete(write)
    except ConditionFailed:
        return Refusal.CONDITION_FAILED
    except (InvalidInput, ItemTooLarge):
        return Refusal.INVALID
    return {}


def _without_key(table: Table, item: object) -> object:
    if not isinstance(item, dict):
        return item
    return {name: comparable(value) for name, value in item.items() if name != table.hash_key}


async def _require_same_effect(
    engine: Engine, drawn: Sequence[tuple[dict[str, AttributeValue] | None, Update | Delete]]
) -> None:
    """Carry out each write in a call of its own and, on an equal item, together with the others."""
    batches = cast("BatchEngine", engine._engine)  # type: ignore[attr-defined]
    marks = [uuid.uuid4().hex for _ in drawn]
    for mark, (stored, _) in zip(marks, drawn, strict=True):
        if stored is not None:
            for copy in ("alone", "together"):
                item = stored | {"WorkerID": {"S": f"{mark} {copy}"}}
                await batches.put(Put(table=WORKERS, item=item))
    together = [
        replace(write, key=f"{mark} together")
        for mark, (_, write) in zip(marks, drawn, strict=True)
    ]
    assert all(map(can_share_call, together))
    found = await batches.write_many(together)
    for mark, (_, write), outcome in zip(marks, drawn, found, strict=True):
        expected = await _alone(batches, replace(write, key=f"{mark} alone"))
        assert _without_key(WORKERS, outcome) == _without_key(WORKERS, expected)
        left = [
            _without_key(WORKERS, await batches.get(WORKERS, f"{mark} {copy}"))
            for copy in ("alone", "together")
        ]
        assert left[0] == left[1]


@given(drawn=st.lists(cases(), min_size=1, max_size=25))
@settings(max_examples=25)
def test_updates(
    portal: BlockingPortal,
    local_engine: Engine,
    drawn: list[tuple[dict[str, AttributeValue] | None, Update]],
) -> None:
    """Any update that may share a call leaves and returns the same item, or the same error."""
    portal.call(partial(_require_same_effect, local_engine, drawn))


@given(items=st.lists(attributes, min_size=1, max_size=12), taken=st.integers(0, 12))
@settings(max_examples=10)
def test_puts(portal: BlockingPortal, local_engine: Engine, items: list[Item], taken: int) -> None:
    """An item is stored where there is none, and one that is there is not overwritten."""
    batches = cast("BatchEngine", local_engine._engine)  # type: ignore[attr-defined]

    async def compare() -> None:
        writes = [
            Put(
                table=SUBSCRIPTIONS,
                item={**item, "SubscriptionID": {"S": uuid.uuid4().hex}},
                conditions=(Absent("SubscriptionID"),),
            )
            for item in items
        ]
        for write in writes[:taken]:
            await batches.put(Put(table=SUBSCRIPTIONS, item={"SubscriptionID": {"S": write.key}}))
        found = await batches.write_many(writes)
        refused = min(taken, len(writes))
        assert found == [Refusal.CONDITION_FAILED] * refused + [{}] * (len(writes) - refused)
        for number, write in enumerate(writes):
            stored = await batches.get(SUBSCRIPTIONS, write.key)
            expected = {"SubscriptionID": write.item["SubscriptionID"]}
            expected = expected if number < taken else dict(write.item)
            assert _without_key(SUBSCRIPTIONS, stored) == _without_key(SUBSCRIPTIONS, expected)

    portal.call(compare)


@st.composite
def deletes(draw: st.DrawFn) -> tuple[dict[str, AttributeValue] | None, Delete]:
    """Draw an item, or None for no item, and a delete that may share a call."""
    stored = draw(attributes)
    version = OneOf("Version", (stored.get("Version") or draw(encoded),))
    holding: list[Condition] = [OneOf(name, (value,)) for name, value in stored.items()]
    drawn = draw(st.lists(st.one_of(st.sampled_from([version, *holding]), conditions), max_size=2))
    delete = Delete(table=WORKERS, key="", conditions=(version, *drawn))
    return (None if draw(st.integers(0, 6)) == 0 else stored), delete


@given(drawn=st.lists(deletes(), min_size=1, max_size=25))
@settings(max_examples=15)
def test_deletes(
    portal: BlockingPortal,
    local_engine: Engine,
    drawn: list[tuple[dict[str, AttributeValue] | None, Delete]],
) -> None:
    """Any delete that may share a call deletes the same items, or has the same error."""
    portal.call(partial(_require_same_effect, local_engine, drawn))
