"""Models and dataclasses as the payloads of tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, RootModel

from streamer_store import AsyncRequest, memory_stores
from streamer_worker import Context, handler
from streamer_worker.testing import Payload, memory_worker, run_handler

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio

ID = UUID("00000000-0000-0000-0000-000000000001")
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


class Color(Enum):
    RED = "red"


class Line(BaseModel):
    text: str
    price: Decimal = Field(alias="Price")


@dataclass
class Address:
    street: str
    since: datetime = NOON


class Order(BaseModel):
    number: UUID
    color: Color
    lines: list[Line]
    address: Address


@dataclass
class Batch:
    orders: list[Order]
    by_name: dict[str, Address] = field(default_factory=dict)


LINE = Line(text="tea", Price=Decimal("2.50"))
ORDER = Order(number=ID, color=Color.RED, lines=[LINE], address=Address("here"))
ADDRESS_JSON = {"street": "here", "since": "2026-01-02T12:00:00Z"}
ORDER_JSON = {
    "number": str(ID),
    "color": "red",
    "lines": [{"text": "tea", "Price": "2.50"}],
    "address": ADDRESS_JSON,
}


@handler("echo")
async def echo(payload: dict[str, Any], _ctx: Context) -> dict[str, Any]:
    return payload


@handler("order")
async def total(payload: Order, _ctx: Context) -> str:
    assert isinstance(payload.address, Address)
    return f"{payload.color} {sum(line.price for line in payload.lines)}"


@pytest.mark.parametrize(
    ("payload", "stored"),
    [
        (ORDER, ORDER_JSON),
        (Address("here"), ADDRESS_JSON),
        (
            Batch([ORDER], {"home": Address("here")}),
            {"orders": [ORDER_JSON], "by_name": {"home": ADDRESS_JSON}},
        ),
        (
            {"order": ORDER, "more": [Address("here"), (ID, Color.RED)], "at": NOON},
            {
                "order": ORDER_JSON,
                "more": [ADDRESS_JSON, [str(ID), "red"]],
                "at": "2026-01-02T12:00:00Z",
            },
        ),
        (RootModel[dict[str, UUID]]({"id": ID}), {"id": str(ID)}),
        (None, {}),
    ],
    ids=["model", "dataclass", "nested", "mapping", "root model", "nothing"],
)
async def test_a_payload_becomes_what_a_producer_s_json_has(
    payload: Payload | None, stored: dict[str, Any]
) -> None:
    """Models, dataclasses, times, UUIDs, enums and decimals, at any depth."""
    assert (await run_handler(echo, payload)).result == stored
    async with memory_worker(echo) as worker:
        assert (await worker.run("echo", payload)).result == stored


async def test_a_decimal_in_a_mapping_remains_a_number() -> None:
    """The store keeps it as a producer's own Decimal."""
    run = await run_handler(echo, {"price": Decimal("2.5")})
    stores = memory_stores()
    request = AsyncRequest(action="echo", payload={"price": Decimal("2.5")})
    stored = await stores.requests.enqueue(request)
    again = await stores.requests.get(stored.request_id)
    assert run.request.payload == again.payload == {"price": 2.5}


async def test_a_handler_gets_the_model_back() -> None:
    """Aliases and decimals are validated like those of a producer."""
    run = await run_handler(total, ORDER)
    assert run.result == {"data": "Color.RED 2.50"}


@pytest.mark.parametrize(
    "make", [lambda: [1], lambda: "text", lambda: Order, lambda: RootModel[int](3)]
)
async def test_another_payload_is_refused(make: Callable[[], Any]) -> None:
    """The error names its type."""
    with pytest.raises(TypeError, match="a mapping, a model or a dataclass, not "):
        await run_handler(echo, make())
