"""The engine on DynamoDB itself."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import anyio

from streamer_store.backoff import full_jitter
from streamer_store.dynamo import partiql, render, statements, tables, transactions
from streamer_store.dynamo.calls import Observe
from streamer_store.dynamo.client import CheckedClient
from streamer_store.engine import (
    Delete,
    Difference,
    Page,
    Put,
    Query,
    Refusal,
    Scan,
    TransactionPart,
    Update,
    Write,
)
from streamer_store.errors import StoreUnavailable
from streamer_store.schema import Index, Table
from streamer_store.table_names import TableNames
from streamer_store.values import Item

if TYPE_CHECKING:
    import random

    from types_aiobotocore_dynamodb import DynamoDBClient

# DynamoDB API Reference: BatchWriteItem, BatchGetItem.
_WRITES_PER_BATCH: Final = 25
_READS_PER_BATCH: Final = 100
_BATCH_ATTEMPTS: Final = 10
# Seconds between the attempts of one batch.
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 5.0


class DynamoEngine:
    """Implements BatchEngine on one aiobotocore client. Use it in the client's event loop only."""

    def __init__(
        self,
        *,
        client: DynamoDBClient,
        names: TableNames,
        rng: random.Random,
        timeout: float = math.inf,
        require_open: Callable[[], object] = int,
        observe: Observe | None = None,
    ) -> None:
        """Build the engine on an open client.

        `rng` draws the pauses between the attempts of a batch. For `timeout`, `require_open`
        and `observe` see CheckedClient.
        """
        self._client = client
        self._calls = CheckedClient(
            client, timeout=timeout, require_open=require_open, observe=observe
        )
        self._names = names
        self.table_name = names.of
        self._rng = rng

    async def get(self, table: Table, key: str) -> Item | None:
        answer = await self._call(
            "GetItem", table, key, {"Key": {table.hash_key: {"S": key}}, "ConsistentRead": True}
        )
        return answer.get("Item")

    async def get_many(
        self, table: Table, keys: Sequence[str], *, attributes: tuple[str, ...] = ()
    ) -> list[Item]:
        name = self.table_name(table)
        items: list[Item] = []
        reading = {"ConsistentRead": True, **render.projection(table, attributes)}

        async def read(batch: list[Any]) -> list[Any]:
            answer = await self._calls.call(
                "BatchGetItem",
                table=name,
                RequestItems={name: {"Keys": batch, **reading}},
            )
            items.extend(answer["Responses"].get(name, []))
            unprocessed = answer["UnprocessedKeys"].get(name)
            return list(unprocessed["Keys"]) if unprocessed else []

        item_keys = _unique_keys(table, keys)
        await self._in_batches("BatchGetItem", name, item_keys, _READS_PER_BATCH, read)
        return items

    async def put(self, put: Put) -> None:
        await self._call("PutItem", put.table, put.key, render.put(put))

    async def update(self, update: Update) -> Item:
        answer = await self._call("UpdateItem", update.table, update.key, render.update(update))
        item: Item = answer.get("Attributes", {})
        return item

    async def delete(self, delete: Delete) -> None:
        await self._call("DeleteItem", delete.table, delete.key, render.delete(delete))

    async def put_many(self, table: Table, items: Sequence[Item]) -> None:
        await self._write_batches(table, [{"PutRequest": {"Item": item}} for item in items])

    async def delete_many(self, table: Table, keys: Sequence[str]) -> None:
        keys_once = _unique_keys(table, keys)
        await self._write_batches(table, [{"DeleteRequest": {"Key": key}} for key in keys_once])

    async def _write_batches(self, table: Table, writes: Sequence[Any]) -> None:
        name = self.table_name(table)

        async def write(batch: list[Any]) -> list[Any]:
            answer = await self._calls.call(
                "BatchWriteItem", table=name, RequestItems={name: batch}
            )
            return list(answer["UnprocessedItems"].get(name, []))

        await self._in_batches("BatchWriteItem", name, writes, _WRITES_PER_BATCH, write)

    async def write_many(self, writes: Sequence[Write]) -> list[Item | Refusal]:
        name = self.table_name(writes[0].table)
        requests = [partiql.statement(write, self.table_name(write.table)) for write in writes]
        answer = await self._calls.call(statements.OPERATION, table=name, Statements=requests)
        responses = answer["Responses"]
        for code, throttled in statements.failed_tries(responses):
            self._calls.report_failure(statements.OPERATION, code, throttled=throttled)
        return [
            statements.outcome(write, response)
            for write, response in zip(writes, responses, strict=True)
        ]

    async def transact(self, parts: Sequence[TransactionPart]) -> None:
        await transactions.send(self._calls, parts, table_name=self.table_name, rng=self._rng)

    async def query(self, query: Query) -> Page:
        return _page(await self._call("Query", query.table, "", render.query(query)))

    async def scan(self, scan: Scan) -> Page:
        return _page(await self._call("Scan", scan.table, "", render.scan(scan)))

    async def has_index(self, table: Table, index: Index) -> bool:
        return await tables.has_index(self._calls, self._names, table, index)

    async def create_tables(self) -> None:
        await tables.create(self._calls, self._names)

    async def check_tables(self) -> list[Difference]:
        return await tables.check(self._calls, self._names)

    async def account(self) -> str | None:
        return await tables.account(self._calls, self._names)

    async def _call(
        self, operation: str, table: Table, key: str, arguments: dict[str, Any]
    ) -> dict[str, Any]:
        name = self.table_name(table)
        return await self._calls.call(operation, table=name, key=key, TableName=name, **arguments)

    async def _in_batches(
        self,
        operation: str,
        name: str,
        entries: Sequence[Any],
        size: int,
        send: Callable[[list[Any]], Awaitable[list[Any]]],
    ) -> None:
        """Send all entries, `size` per call. `send` returns the entries that DynamoDB left
        unprocessed: they are sent again, after a growing pause.

        Raises StoreUnavailable after ten attempts of one batch.
        """
        for start in range(0, len(entries), size):
            batch = list(entries[start : start + size])
            for attempt in range(_BATCH_ATTEMPTS):
                if attempt:
                    pause = full_jitter(
                        self._rng, attempt, first=_FIRST_PAUSE, longest=_LONGEST_PAUSE
                    )
                    await anyio.sleep(pause)
                batch = await send(batch)
                if not batch:
                    break
            else:
                message = f"{len(batch)} entries left after {_BATCH_ATTEMPTS} attempts"
                raise StoreUnavailable(message, operation=operation, table=name)


def _unique_keys(table: Table, keys: Sequence[str]) -> list[Item]:
    """Return the keys as items, each once: DynamoDB refuses a batch with a repeated key."""
    return [{table.hash_key: {"S": key}} for key in dict.fromkeys(keys)]


def _page(answer: Any) -> Page:
    return Page(answer.get("Items", ()), answer.get("LastEvaluatedKey"), answer["Count"])
