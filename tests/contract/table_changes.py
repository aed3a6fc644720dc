"""Helpers that make tables which differ from the schema."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from dynamodb_local import NotInstalledError, dynamodb_local
from streamer_store import Stores, open_stores
from streamer_store.schema import TABLES
from support import client_of


@asynccontextmanager
async def opened(
    url: str, prefix: str, *, table_names: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[Stores, Any]]:
    """Open stores without tables, and their client. Tables are deleted afterwards."""
    async with open_stores(endpoint_url=url, prefix=prefix, table_names=table_names) as stores:
        client = client_of(stores.engine)
        try:
            yield stores, client
        finally:
            # ListTables would tell of a hundred tables at a time: other tests have theirs here too.
            for table in TABLES:
                with suppress(client.exceptions.ResourceNotFoundException):
                    await client.delete_table(TableName=stores.engine.table_name(table))


async def remake(client: Any, name: str, **changes: Any) -> None:
    """Make a table again with some of its description changed, without TTL."""
    description = (await client.describe_table(TableName=name))["Table"]
    await client.delete_table(TableName=name)
    indexes = [
        {key: index[key] for key in ("IndexName", "KeySchema", "Projection")}
        for index in description.get("GlobalSecondaryIndexes", ())
    ]
    description = {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": description["KeySchema"],
        "AttributeDefinitions": description["AttributeDefinitions"],
        "GlobalSecondaryIndexes": indexes,
    }
    await client.create_table(**{k: v for k, v in (description | changes).items() if v})


async def with_projection(client: Any, name: str, index: str, projection: dict[str, Any]) -> None:
    """Make a table again with another projection of one index."""
    description = (await client.describe_table(TableName=name))["Table"]
    indexes = [
        {
            "IndexName": gsi["IndexName"],
            "KeySchema": gsi["KeySchema"],
            "Projection": projection if gsi["IndexName"] == index else gsi["Projection"],
        }
        for gsi in description["GlobalSecondaryIndexes"]
    ]
    await remake(client, name, GlobalSecondaryIndexes=indexes)


def own_dynamodb_local(local_url: str) -> Iterator[str]:
    """Give a DynamoDB Local of one's own, for tests that build indexes.

    Each table with TTL occupies a thread of the pool that also builds indexes, so that an index
    takes minutes where other tests have many tables.
    """
    try:
        with dynamodb_local() as own:
            yield own
    except NotInstalledError:  # STREAMER_TEST_DYNAMODB_URL names one
        yield local_url


async def without_due_index(client: Any, name: str) -> None:
    """Make the table of requests again as an earlier release made it, without TTL."""
    description = (await client.describe_table(TableName=name))["Table"]
    kept = [
        {key: index[key] for key in ("IndexName", "KeySchema", "Projection")}
        for index in description["GlobalSecondaryIndexes"]
        if index["IndexName"] != "DueIndex"
    ]
    attributes = [
        definition
        for definition in description["AttributeDefinitions"]
        if not definition["AttributeName"].startswith("Due")
    ]
    await remake(client, name, GlobalSecondaryIndexes=kept, AttributeDefinitions=attributes)
