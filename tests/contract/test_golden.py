"""Items as the Go store writes them are decoded, and keep their unknown attributes."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from contract.request_steps import candidate, put_raw, raw, reclaimed
from streamer_store import AsyncRequest, EventType, RequestStatus, Stores
from streamer_store.engine import Put
from streamer_store.schema import CONNECTIONS, SUBSCRIPTIONS

if TYPE_CHECKING:
    from streamer_store.values import Item
    from support import ManualClock

pytestmark = pytest.mark.anyio
ZERO = {"S": "0001-01-01T00:00:00Z"}
UNKNOWN: dict[str, Any] = {"Urgency": {"N": "7"}, "Trace": {"M": {"span": {"B": b"\x00\x01"}}}}


def go_request(created_at: str = "2066-01-02T03:04:05.123456789Z", **more: Any) -> Item:
    """Return a request by a Go producer: no Version, zero times, empty text, NULL for nil."""
    return {
        "RequestID": {"S": "r1"},
        "ConnectionID": {"S": "conn-123"},
        "Status": {"S": "PENDING"},
        "CreatedAt": {"S": created_at},
        "Action": {"S": "generate_report"},
        "Payload": {"M": {"type": {"S": "monthly"}}},
        "ProcessingStarted": ZERO,
        "ProcessingEnded": ZERO,
        "Result": {"NULL": True},
        "Error": {"S": ""},
        "Progress": {"N": "0"},
        "ProgressMessage": {"S": ""},
        "ProgressDetails": {"NULL": True},
        "RetryCount": {"N": "0"},
        "MaxRetries": {"N": "3"},
        "RetryAfter": ZERO,
        "UserID": {"S": ""},
        "TenantID": {"S": ""},
        "TTL": {"N": "9999999999"},
        **UNKNOWN,
        **more,
    }


def without(item: Item, *names: str) -> Item:
    return {name: value for name, value in item.items() if name not in names}


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2066-01-02T03:04:05Z", datetime(2066, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2066-01-02T03:04:05.1Z", datetime(2066, 1, 2, 3, 4, 5, 100_000, tzinfo=UTC)),
        ("2066-01-02T03:04:05.123456Z", datetime(2066, 1, 2, 3, 4, 5, 123_456, tzinfo=UTC)),
        ("2066-01-02T03:04:05.123456789Z", datetime(2066, 1, 2, 3, 4, 5, 123_456, tzinfo=UTC)),
        ("2066-01-02T05:04:05.5+02:00", datetime(2066, 1, 2, 3, 4, 5, 500_000, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", None),
    ],
)
async def test_times_written_by_go_are_decoded(
    stores: Stores, text: str, moment: datetime | None
) -> None:
    """Times with 0 to 9 digits, with Z or an offset, are decoded. The zero time means no time."""
    await put_raw(stores, go_request(created_at=text))
    assert (await candidate(stores, "r1")).created_at == moment
    assert (await stores.requests.get("r1")).created_at == moment


async def test_a_request_by_go_is_decoded(stores: Stores) -> None:
    """Empty text, NULL and zero times are absent, and there is no Version."""
    await put_raw(stores, go_request())
    request = await stores.requests.get("r1")
    assert (request.user_id, request.error, request.result) == (None, None, None)
    assert (request.processing_started, request.retry_after) == (None, None)
    assert (request.version, request.max_retries) == (None, 3)
    assert request.payload == {"type": "monthly"}


async def test_a_request_by_go_can_be_run_retried_and_redriven(
    stores: Stores, clock: ManualClock
) -> None:
    """All changes of status work, and unknown attributes are kept."""
    await put_raw(stores, go_request())
    claim = await reclaimed(stores)
    await stores.requests.update_progress(claim, 0.5, "half", {"rows": 1})
    await stores.requests.retry(claim, timedelta(seconds=5), error="broke", code="BROKE")
    clock.advance(5)
    claim = await reclaimed(stores)
    await stores.requests.fail(claim, "broke again", "BROKE")
    await stores.requests.redrive("r1")
    await stores.requests.cancel("r1")
    await stores.requests.redrive("r1")
    claim = await reclaimed(stores)
    await stores.requests.complete(claim, {"url": "there"})
    item = await raw(stores)
    assert {name: item[name] for name in UNKNOWN} == UNKNOWN
    assert item["Payload"] == {"M": {"type": {"S": "monthly"}}}
    assert (await stores.requests.get("r1")).status is RequestStatus.COMPLETED


@pytest.mark.parametrize("priority", [{"N": "7"}, {"S": "urgent"}, {"NULL": True}, {"M": {}}])
async def test_an_unknown_priority_is_normal_and_is_kept(stores: Stores, priority: Any) -> None:
    """Another program may use an attribute of this name, and a later release more values."""
    await put_raw(stores, go_request(Priority=priority))
    claim = await reclaimed(stores)
    assert claim.request.priority is None
    await stores.requests.retry(claim, timedelta(seconds=5))
    item = await raw(stores)
    assert (item["Priority"], item["DueLane"]) == (priority, {"S": "due"})


async def test_only_one_claim_of_a_request_without_version_succeeds(stores: Stores) -> None:
    """Of two claims of a request that Go wrote, the second is refused."""
    await put_raw(stores, go_request())
    seen = await candidate(stores, "r1")
    assert seen.seen_version is None
    await stores.requests.release(await stores.requests.claim(seen))
    assert (await raw(stores))["Version"]
    with pytest.raises(Exception, match="has changed"):
        await stores.requests.claim(seen)


async def test_a_payload_may_be_absent_or_null(stores: Stores) -> None:
    """The payload is then None. An absent MaxRetries is 3, and 0 means none."""
    await put_raw(stores, without(go_request(), "Payload", "MaxRetries"))
    request = await stores.requests.get("r1")
    assert (request.payload, request.metadata, request.max_retries) == (None, {}, 3)
    await put_raw(stores, go_request(Payload={"NULL": True}, MaxRetries={"N": "0"}))
    request = await stores.requests.get("r1")
    assert (request.payload, request.max_retries) == (None, 0)


async def test_the_metadata_of_a_router_is_returned(stores: Stores) -> None:
    """`metadata` returns `_metadata` of the payload, which is unchanged."""
    metadata = {"M": {"source_ip": {"S": "192.0.2.1"}}}
    await put_raw(stores, go_request(Payload={"M": {"n": {"N": "1"}, "_metadata": metadata}}))
    request = await stores.requests.get("r1")
    assert request.metadata == {"source_ip": "192.0.2.1"}
    assert request.payload == {"n": 1, "_metadata": {"source_ip": "192.0.2.1"}}


async def test_a_connection_by_go_can_be_pinged(stores: Stores) -> None:
    """Metadata is decoded, and unknown attributes are kept."""
    item: Item = {
        "ConnectionID": {"S": "conn-123"},
        "UserID": {"S": "user-456"},
        "TenantID": {"S": "tenant-789"},
        "Endpoint": {"S": "wss://example.com/ws"},
        "ConnectedAt": {"S": "2066-01-02T03:04:05.123456789+01:00"},
        "LastPing": {"S": "2066-01-02T03:04:05Z"},
        "Metadata": {"M": {"agent": {"S": "x"}}},
        "TTL": {"N": "9999999999"},
        **UNKNOWN,
    }
    await stores.engine.put(Put(table=CONNECTIONS, item=item))
    assert (await stores.connections.get("conn-123")).metadata == {"agent": "x"}
    await stores.connections.update_last_ping("conn-123")
    after = await stores.engine.get(CONNECTIONS, "conn-123")
    assert after is not None
    assert {name: after[name] for name in UNKNOWN} == UNKNOWN


async def test_a_subscription_by_go_is_listed(stores: Stores) -> None:
    """EventTypes is decoded from a string set."""
    item: Item = {
        "SubscriptionID": {"S": "conn-123#r1"},
        "ConnectionID": {"S": "conn-123"},
        "RequestID": {"S": "r1"},
        "EventTypes": {"SS": ["progress", "complete"]},
        "CreatedAt": {"S": "2066-01-02T03:04:05Z"},
        "TTL": {"N": "9999999999"},
        **UNKNOWN,
    }
    await stores.engine.put(Put(table=SUBSCRIPTIONS, item=item))
    (subscription,) = await stores.subscriptions.get_by_request("r1")
    assert subscription.event_types == {EventType.PROGRESS, EventType.COMPLETE}
    await stores.subscriptions.subscribe("conn-123", "r1", [EventType.ERROR])
    after = await stores.engine.get(SUBSCRIPTIONS, "conn-123#r1")
    assert after is not None
    assert {name: after[name] for name in UNKNOWN} == UNKNOWN


async def test_numbers_are_written_as_plain_digits(stores: Stores) -> None:
    """No number is written with an exponent, because Go cannot parse `1E+2` as an int."""
    payload = {
        "hundred": 100,
        "float": 1e22,
        "exact": Decimal("12E+3"),
        "small": 1e-7,
        "large": 10**125,
        "zero": -0.0,
        "in a set": {1000, 20},
        "in a list": [-5000],
    }
    await stores.requests.enqueue(AsyncRequest(action="echo", request_id="r1", payload=payload))
    item = await raw(stores)
    numerals = re.findall(r"'N': '([^']*)'", str(item))
    numerals += [
        number for value in item["Payload"]["M"].values() for number in value.get("NS", ())
    ]
    assert len(numerals) > len(payload)
    assert [number for number in numerals if not re.fullmatch(r"-?\d+(\.\d+)?", number)] == []
    assert (await stores.requests.get("r1")).payload == payload
