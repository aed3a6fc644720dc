"""Batches of writes on DynamoDB Local, behind a network that loses their answers."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from integration.proxy import Fault, Forward, Proxy, answering, losing_answers
from streamer_store import (
    AsyncRequest,
    Claim,
    InvalidInput,
    RequestNotPending,
    RequestStatus,
    Stores,
    open_stores,
)
from streamer_store.conditions import OneOf
from streamer_store.dynamo.calls import CallEnded, TryFailed
from streamer_store.engine import Update
from streamer_store.schema import REQUESTS

pytestmark = [pytest.mark.anyio, pytest.mark.local]
COUNT = 12
BATCH = "BatchExecuteStatement"


def on_batches(fault: Fault, *, when: Callable[[int], bool]) -> Fault:
    """Apply `fault` to the batches whose number, from 0, is one for which `when` is true."""
    numbers = itertools.count()

    async def chosen(request: web.Request, forward: Forward) -> web.StreamResponse:
        if request.headers["X-Amz-Target"].endswith(BATCH) and when(next(numbers)):
            return await fault(request, forward)
        return await forward()

    return chosen


async def enqueue(stores: Stores) -> list[AsyncRequest]:
    return (
        await stores.requests.enqueue_many(
            AsyncRequest(action="echo", payload={"number": number}) for number in range(COUNT)
        )
    ).records


async def claim_all(stores: Stores) -> list[Claim]:
    page = await stores.requests.entries(RequestStatus.PENDING, limit=100)
    return await asyncio.gather(*map(stores.requests.claim, page.candidates))


async def complete_all(stores: Stores, claims: list[Claim]) -> None:
    await asyncio.gather(*[stores.requests.complete(claim, {"ok": True}) for claim in claims])


async def statuses(stores: Stores, requests: list[AsyncRequest]) -> set[RequestStatus]:
    found = await stores.requests.get_many(request.request_id for request in requests)
    assert len(found) == COUNT
    return {request.status for request in found.values()}


@pytest.mark.parametrize("fault", [losing_answers, answering(500, "InternalServerError")])
async def test_each_batch_is_sent_twice_and_takes_effect_once(
    real: tuple[Stores, dict[str, str]], proxy: Proxy, fault: Fault
) -> None:
    """A write whose answer was lost finds itself: its condition fails, its Version is there.

    Proves VERSION-2.
    """
    stores, settings = real
    prefix = settings["STREAMER_TABLE_PREFIX"]
    proxy.fault = on_batches(fault, when=lambda number: number % 2 == 0)
    async with open_stores(endpoint_url=proxy.url, prefix=prefix) as behind:
        requests = await enqueue(behind)
        claims = await claim_all(behind)
        assert sorted(claim.request_id for claim in claims) == sorted(
            request.request_id for request in requests
        )
        numbers = sorted((claim.request.payload or {})["number"] for claim in claims)
        assert numbers == list(range(COUNT))
        await complete_all(behind, claims)
    assert await statuses(stores, requests) == {RequestStatus.COMPLETED}
    assert proxy.calls[BATCH] == 6


async def test_a_denied_batch_becomes_single_calls(
    real: tuple[Stores, dict[str, str]], proxy: Proxy
) -> None:
    """A policy without PartiQL is a matter of CPU only."""
    stores, settings = real
    prefix = settings["STREAMER_TABLE_PREFIX"]
    proxy.fault = on_batches(answering(400, "AccessDeniedException"), when=lambda _: True)
    async with open_stores(endpoint_url=proxy.url, prefix=prefix) as behind:
        requests = await enqueue(behind)
        await complete_all(behind, await claim_all(behind))
    assert await statuses(stores, requests) == {RequestStatus.COMPLETED}
    assert proxy.calls[BATCH] == 1
    assert (proxy.calls["PutItem"], proxy.calls["UpdateItem"]) == (COUNT, 2 * COUNT)


async def test_a_statement_that_is_throttled_is_sent_again(
    real: tuple[Stores, dict[str, str]], proxy: Proxy
) -> None:
    """One error among answers of a batch is one single call, and is counted as a throttle."""

    async def throttle_third(request: web.Request, forward: Forward) -> web.StreamResponse:
        # The statement has taken effect, so that its second copy meets the first.
        statements = json.loads(await request.read())["Statements"]
        if len(statements) < 3:
            return await forward()
        answer = await forward()
        body = json.loads(answer.body)  # type: ignore[arg-type]
        if "Error" not in body["Responses"][2]:
            body["Responses"][2] = {"Error": {"Code": "ThrottlingError", "Message": "injected"}}
        headers = {"x-amzn-RequestId": "injected"}
        kind = "application/x-amz-json-1.0"
        return web.json_response(body, headers=headers, content_type=kind)

    events: list[CallEnded | TryFailed] = []
    stores, settings = real
    prefix = settings["STREAMER_TABLE_PREFIX"]
    proxy.fault = on_batches(throttle_third, when=lambda _: True)
    async with open_stores(endpoint_url=proxy.url, prefix=prefix, observe=events.append) as behind:
        requests = await enqueue(behind)
        await complete_all(behind, await claim_all(behind))
    assert await statuses(stores, requests) == {RequestStatus.COMPLETED}
    assert proxy.calls[BATCH] == 3
    assert (proxy.calls["PutItem"], proxy.calls["UpdateItem"]) == (1, 2)
    failed = [event for event in events if isinstance(event, TryFailed)]
    assert failed == [TryFailed(operation=BATCH, code="ThrottlingError", throttled=True)] * 3


async def test_one_wrong_value_fails_its_own_write_only(
    real: tuple[Stores, dict[str, str]],
) -> None:
    """DynamoDB refuses the whole batch. The writes are then sent one by one."""
    stores, _ = real
    await enqueue(stores)
    claims = await claim_all(stores)

    def update(claim: Claim, value: dict[str, Any]) -> Update:
        return Update(
            table=REQUESTS,
            key=claim.request_id,
            sets={"Version": {"S": claim.version}, "Odd": value},
            conditions=(OneOf("Version", ({"S": claim.version},)),),
        )

    writes = [update(claim, {"N": str(number)}) for number, claim in enumerate(claims)]
    writes[4] = update(claims[4], {"N": "no number"})
    found = await asyncio.gather(*map(stores.engine.update, writes), return_exceptions=True)
    assert [place for place, item in enumerate(found) if isinstance(item, Exception)] == [4]
    assert isinstance(found[4], InvalidInput)


async def test_of_two_claims_of_a_request_one_fails(
    real: tuple[Stores, dict[str, str]],
) -> None:
    """Two clients claim the same requests in batches. Each request has one claim.

    Proves CLAIM-1.
    """
    stores, settings = real
    endpoint, prefix = settings["STREAMER_ENDPOINT_URL"], settings["STREAMER_TABLE_PREFIX"]
    await enqueue(stores)
    page = await stores.requests.entries(RequestStatus.PENDING, limit=100)
    async with open_stores(endpoint_url=endpoint, prefix=prefix) as other:
        found = await asyncio.gather(
            *[
                client.requests.claim(candidate)
                for candidate in page.candidates
                for client in (stores, other)
            ],
            return_exceptions=True,
        )
    claims = [claim for claim in found if isinstance(claim, Claim)]
    assert len({claim.request_id for claim in claims}) == len(claims) == COUNT
    errors = [error for error in found if isinstance(error, BaseException)]
    assert {type(error) for error in errors} == {RequestNotPending}
