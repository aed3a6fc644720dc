"""Tables on DynamoDB Local, and their fast filling."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, Final

import anyio
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from dynamodb_local import dynamodb_local, use_dummy_credentials
from streamer_store import AsyncRequest, RequestStatus, open_stores
from streamer_store.clock import new_id
from streamer_store.codec import request_item
from support import unique_prefix

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

_BATCH: Final = 25  # the most items of a BatchWriteItem
_CONCURRENT_BATCHES: Final = 4
Item = Mapping[str, Any]


class Tables:
    """The tables of one benchmark, with a prefix of their own."""

    def __init__(self, client: DynamoDBClient, *, url: str, prefix: str) -> None:
        self.client = client
        self.url = url
        self.prefix = prefix

    async def put_all(self, table: str, items: Iterable[Item]) -> None:
        """Write items to a table, which is named without the prefix."""
        puts: Iterator[Any] = ({"PutRequest": {"Item": item}} for item in items)

        async def put_batches() -> None:
            while batch := list(islice(puts, _BATCH)):
                written = await self.client.batch_write_item(
                    RequestItems={self.prefix + table: batch}
                )
                if written["UnprocessedItems"]:
                    raise RuntimeError("DynamoDB Local left items of a batch unprocessed")

        async with anyio.create_task_group() as tasks:
            for _ in range(_CONCURRENT_BATCHES):
                tasks.start_soon(put_batches)

    async def enqueue(
        self,
        number: int,
        *,
        action: str,
        payload: Mapping[str, Any],
        max_retries: int = 0,
        connections: Sequence[str] = (),
    ) -> None:
        """Store PENDING requests, each a millisecond older than the next.

        `connections`: the ids of the connections that they belong to, in turn.
        """
        connection_ids = cycle(connections or [None])
        await self.put_all(
            "requests",
            (
                request_item(
                    replace(
                        request,
                        payload=payload,
                        max_retries=max_retries,
                        connection_id=next(connection_ids),
                    )
                )
                for request in _requests(number, action)
            ),
        )

    async def wait_until_tomorrow(self, number: int, *, action: str) -> None:
        """Store RETRYING requests that are due in a day."""
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        items = (
            request_item(
                replace(request, status=RequestStatus.RETRYING, retry_after=tomorrow, retry_count=1)
            )
            for request in _requests(number, action)
        )
        # The keys of DueIndex, as a worker writes them when it schedules a retry.
        lane = {"DueLane": {"S": "due"}}
        await self.put_all(
            "requests", (dict(item) | lane | {"DueAt": item["RetryAfter"]} for item in items)
        )

    async def count(self, status: str) -> int:
        """Count the requests of a status."""
        pages = self.client.get_paginator("query").paginate(
            TableName=f"{self.prefix}requests",
            IndexName="StatusIndex",
            Select="COUNT",
            KeyConditionExpression="#status = :status",
            ExpressionAttributeNames={"#status": "Status"},
            ExpressionAttributeValues={":status": {"S": status}},
        )
        return sum([page["Count"] async for page in pages])


def _requests(number: int, action: str) -> Iterator[AsyncRequest]:
    """Yield PENDING requests, each a millisecond older than the next."""
    rng = random.Random(7)
    first = datetime.now(UTC) - timedelta(milliseconds=number)
    ttl = int((first + timedelta(days=7)).timestamp())
    for position in range(number):
        yield AsyncRequest(
            request_id=new_id(rng),
            version=new_id(rng),
            action=action,
            created_at=first + timedelta(milliseconds=position),
            ttl=ttl,
        )


@contextmanager
def database() -> Iterator[str]:
    """Give the URL of DynamoDB Local: a running one, or one started for this run.

    Raises NotInstalledError.
    """
    use_dummy_credentials()
    running = os.environ.get("STREAMER_TEST_DYNAMODB_URL")
    if running:
        yield running
        return
    with dynamodb_local() as url:
        yield url


@asynccontextmanager
async def open_client(url: str) -> AsyncIterator[DynamoDBClient]:
    """Open a client of DynamoDB as a program would that knows what is fast."""
    config = AioConfig(
        parameter_validation=False,
        max_pool_connections=50,
        retries={"mode": "standard"},
        user_agent="bench",
    )
    async with get_session().create_client("dynamodb", endpoint_url=url, config=config) as client:
        yield client


@asynccontextmanager
async def fresh_tables(url: str) -> AsyncIterator[Tables]:
    """Give empty tables, which are deleted at the end."""
    prefix = unique_prefix()
    async with open_client(url) as client:
        async with open_stores(endpoint_url=url, prefix=prefix) as stores:
            await stores.create_tables()
        try:
            yield Tables(client, url=url, prefix=prefix)
        finally:
            await _delete_tables(client, prefix)


async def _delete_tables(client: DynamoDBClient, prefix: str) -> None:
    """Delete the tables, so that their items take no memory of DynamoDB Local."""
    with anyio.move_on_after(5, shield=True):
        for table in ("connections", "requests", "subscriptions", "workers"):
            await client.delete_table(TableName=prefix + table)
