"""Records are converted to items and back, and any item is a record or Undecodable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from properties.strategies import canonical, payloads, refused, somewhere, texts, times, values
from streamer_store import (
    AsyncRequest,
    Attempt,
    Connection,
    EventType,
    RequestStatus,
    Subscription,
    Undecodable,
    ValidationError,
    WorkerRow,
    attributes,
    codec,
)
from streamer_store.values import Item, encode

names = st.text(min_size=1, max_size=10)
absent_or = st.none().__or__
counts = st.integers(0, 10**12)
# DynamoDB does not store numbers smaller than 1E-130.
fractions = st.one_of(st.just(0.0), st.floats(1e-130, 1))
attempts: SearchStrategy[Attempt] = st.builds(
    Attempt,
    number=counts,
    ended=times,
    outcome=names,
    worker_id=absent_or(names),
    started=absent_or(times),
    error_code=absent_or(names),
    error_class=absent_or(names),
    error=absent_or(names),
)
# Empty text is not written, so it is read as absent.
requests: SearchStrategy[AsyncRequest] = st.builds(
    AsyncRequest,
    action=names,
    payload=absent_or(payloads),
    request_id=names,
    connection_id=absent_or(names),
    user_id=absent_or(names),
    tenant_id=absent_or(names),
    status=st.sampled_from(RequestStatus),
    created_at=absent_or(times),
    processing_started=absent_or(times),
    processing_ended=absent_or(times),
    result=absent_or(payloads),
    error=absent_or(names),
    error_code=absent_or(names),
    progress=fractions,
    progress_message=absent_or(names),
    progress_details=absent_or(payloads),
    retry_count=counts,
    max_retries=counts,
    retry_after=absent_or(times),
    ttl=absent_or(counts),
    version=absent_or(names),
    worker_id=absent_or(names),
    write_seq=counts,
    checkpoint=absent_or(values.filter(lambda value: value != "")),
    attempts=st.lists(attempts, max_size=5).map(tuple),
)
connections: SearchStrategy[Connection] = st.builds(
    Connection,
    connection_id=names,
    user_id=names,
    tenant_id=names,
    endpoint=names,
    connected_at=times,
    last_ping=absent_or(times),
    metadata=st.dictionaries(names, texts, max_size=3),
    ttl=absent_or(counts),
)
subscriptions: SearchStrategy[Subscription] = st.builds(
    Subscription,
    connection_id=names.filter(lambda name: "#" not in name),
    request_id=names,
    event_types=st.frozensets(st.sampled_from(EventType), min_size=1),
    created_at=absent_or(times),
    ttl=absent_or(counts),
)
workers: SearchStrategy[WorkerRow] = st.builds(
    WorkerRow,
    worker_id=names,
    started_at=times,
    beat=counts,
    seen_at=absent_or(times),
    host=texts,
    pid=counts,
    release=texts,
    actions=st.frozensets(names, max_size=3),
    concurrency=counts,
    in_flight=counts,
    draining=st.booleans(),
    sweeps=counts,
    cancel=st.frozensets(names, max_size=3),
    drain=st.booleans(),
    ttl=absent_or(counts),
)

Codec = tuple[Callable[[Any], Item], Callable[[Item], Any]]
REQUEST: Codec = (codec.request_item, codec.request)
CONNECTION: Codec = (codec.connection_item, codec.connection)
SUBSCRIPTION: Codec = (codec.subscription_item, codec.subscription)
WORKER: Codec = (codec.worker_item, codec.worker)


@given(
    st.one_of(
        st.tuples(st.just(REQUEST), requests),
        st.tuples(st.just(CONNECTION), connections),
        st.tuples(st.just(SUBSCRIPTION), subscriptions),
        st.tuples(st.just(WORKER), workers),
    )
)
def test_records_are_read_back(drawn: tuple[Codec, Any]) -> None:
    """A record is read back from its item with equal fields."""
    (write, read), record = drawn
    assert canonical(asdict(read(write(record)))) == canonical(asdict(record))


@given(somewhere(refused), st.sampled_from(["payload", "result", "progress_details"]))
def test_a_record_that_cannot_be_stored_names_the_field(value: Any, field: str) -> None:
    """The path in the ValidationError starts with the field of the record."""
    document: dict[str, Any] = {field: {"here": value}}
    record = AsyncRequest(action="echo", request_id="r1", **document)
    with pytest.raises(ValidationError) as raised:
        codec.request_item(record)
    assert raised.value.field.startswith(field)


KNOWN = sorted(
    {
        attribute.name
        for attribute in (*attributes.REQUEST, *attributes.CONNECTION, *attributes.WORKER)
    }
    | {"Attempts"}
)
# Times, statuses and ids as text reach more of the decoder than other text.
likely = st.one_of(
    values, st.sampled_from([*RequestStatus, *EventType, "2026-03-14T15:09:26Z", "r1", "9999-99"])
)
items: SearchStrategy[Item] = st.dictionaries(
    st.sampled_from(KNOWN), likely.map(encode), max_size=len(KNOWN)
)


@given(items, st.sampled_from([REQUEST, CONNECTION, SUBSCRIPTION, WORKER]))
def test_any_item_is_read_or_undecodable(item: Item, codecs: Codec) -> None:
    """Reading an item raises nothing but Undecodable, whatever its attributes."""
    _, read = codecs
    try:
        record = read(item)
    except Undecodable:
        return
    assert is_dataclass(record)


@given(items, st.sampled_from(RequestStatus))
def test_any_entry_of_the_index_is_a_candidate(item: Item, status: RequestStatus) -> None:
    """An entry with wrong attributes is a broken candidate. None is left out."""
    entry = {**item, "RequestID": {"S": "r1"}, "Status": {"S": status.value}}
    candidate = codec.candidate(entry)
    assert (candidate.request_id, candidate.status) == ("r1", status)
    assert candidate.seen_version == item.get("Version")
