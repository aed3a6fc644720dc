"""A bare loop: what DynamoDB's client needs to claim requests and to store their results.

Run as `python -m bench.bare single|batched URL PREFIX TOTAL` by bench/drain.py.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import anyio

from bench.counter import Counter
from bench.database import open_client
from bench.payloads import RESULT
from streamer_store.values import encode_document

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

SINGLE_PAGE: Final = 32
"""Requests at a time with single calls: the default concurrency of a worker."""
BATCH: Final = 25
"""Statements of a BatchExecuteStatement, which allows no more."""
_NAMES: Final = {"#status": "Status", "#ttl": "TTL", "#error": "Error", "#result": "Result"}
_CLAIM: Final = (
    "SET #status = :processing, Version = :new, ProcessingStarted = :now, WriteSeq = :zero,"
    " #ttl = :ttl, WorkerID = :worker"
    " REMOVE RetryAfter, #error, ErrorCode, ProcessingEnded, #result"
)
_OUTCOME: Final = (
    "SET #status = :completed, Version = :new, Progress = :one, ProcessingEnded = :now,"
    " #ttl = :ttl, #result = :result REMOVE Checkpoint"
)
_HELD: Final = "#status = :status AND Version = :version"
_CLAIM_STATEMENT: Final = (
    'UPDATE "{table}" SET "Status"=? SET "Version"=? SET "ProcessingStarted"=? SET "WriteSeq"=?'
    ' SET "TTL"=? SET "WorkerID"=? REMOVE "RetryAfter" REMOVE "Error" REMOVE "ErrorCode"'
    ' REMOVE "ProcessingEnded" REMOVE "Result"'
    ' WHERE "RequestID"=? AND "Status"=? AND "Version"=? RETURNING ALL NEW *'
)
_OUTCOME_STATEMENT: Final = (
    'UPDATE "{table}" SET "Status"=? SET "Version"=? SET "Progress"=? SET "ProcessingEnded"=?'
    ' SET "TTL"=? SET "Result"=? REMOVE "Checkpoint"'
    ' WHERE "RequestID"=? AND "Status"=? AND "Version"=?'
)
_PENDING: Final = {"S": "PENDING"}
_PROCESSING: Final = {"S": "PROCESSING"}
_COMPLETED: Final = {"S": "COMPLETED"}
_TTL: Final = {"N": "4102444800"}
_WORKER: Final = {"S": "bare"}
_RESULT: Final = encode_document(RESULT, "result")


class Loop:
    """Works off the queue, page by page."""

    def __init__(self, client: DynamoDBClient, *, prefix: str, counter: Counter) -> None:
        self._client: Any = client
        self._table = f"{prefix}requests"
        self._counter = counter
        self._versions = 0

    async def run(self, total: int, *, size: int, work: Callable[[Any], Awaitable[None]]) -> None:
        """Complete `total` requests, of which `work` gets `size` at a time."""
        while self._counter.value < total:
            await work(await self._page(size))

    async def single(self, items: list[Any]) -> None:
        """Complete requests by two UpdateItem each, concurrently."""
        async with anyio.create_task_group() as tasks:
            for item in items:
                tasks.start_soon(self._complete, item)

    async def batched(self, items: list[Any]) -> None:
        """Complete at most 25 requests by two BatchExecuteStatement."""
        now = _now()
        versions = [self._new_version() for _ in items]
        claim = _CLAIM_STATEMENT.format(table=self._table)
        claims = [
            {
                "Statement": claim,
                "Parameters": [
                    *(_PROCESSING, version, now, {"N": "0"}, _TTL, _WORKER),
                    *(item["RequestID"], _PENDING, item["Version"]),
                ],
            }
            for item, version in zip(items, versions, strict=True)
        ]
        claimed = await self._execute(claims)
        outcome = _OUTCOME_STATEMENT.format(table=self._table)
        outcomes = [
            {
                "Statement": outcome,
                "Parameters": [
                    *(_COMPLETED, self._new_version(), {"N": "1"}, now, _TTL, _RESULT),
                    *(response["Item"]["RequestID"], _PROCESSING, response["Item"]["Version"]),
                ],
            }
            for response in claimed
        ]
        await self._execute(outcomes)
        self._counter.add(len(items))

    async def _page(self, size: int) -> list[Any]:
        page = await self._client.query(
            TableName=self._table,
            IndexName="StatusIndex",
            KeyConditionExpression="#status = :status",
            ExpressionAttributeNames={"#status": "Status"},
            ExpressionAttributeValues={":status": _PENDING},
            Limit=size,
        )
        items: list[Any] = page["Items"]
        if not items:
            raise RuntimeError("the queue is empty too early")
        return items

    async def _complete(self, item: Any) -> None:
        version = self._new_version()
        values = {":now": _now(), ":ttl": _TTL}
        claimed = await self._update(
            item["RequestID"],
            _CLAIM,
            ReturnValues="ALL_NEW",
            ExpressionAttributeNames=_NAMES,
            ExpressionAttributeValues=values
            | {":processing": _PROCESSING, ":new": version, ":zero": {"N": "0"}}
            | {":worker": _WORKER, ":status": _PENDING, ":version": item["Version"]},
        )
        await self._update(
            claimed["Attributes"]["RequestID"],
            _OUTCOME,
            ExpressionAttributeNames={
                name: value for name, value in _NAMES.items() if name != "#error"
            },
            ExpressionAttributeValues=values
            | {":completed": _COMPLETED, ":new": self._new_version(), ":one": {"N": "1"}}
            | {":result": _RESULT, ":status": _PROCESSING, ":version": version},
        )
        self._counter.add()

    async def _update(self, key: Any, expression: str, **arguments: Any) -> Any:
        return await self._client.update_item(
            TableName=self._table,
            Key={"RequestID": key},
            UpdateExpression=expression,
            ConditionExpression=_HELD,
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
            **arguments,
        )

    async def _execute(self, statements: list[Any]) -> list[Any]:
        answer = await self._client.batch_execute_statement(Statements=statements)
        responses: list[Any] = answer["Responses"]
        failed = [response["Error"] for response in responses if "Error" in response]
        if failed:
            raise RuntimeError(f"statements failed: {failed}")
        return responses

    def _new_version(self) -> dict[str, str]:
        self._versions += 1
        return {"S": f"bare-{self._versions:020}"}


def _now() -> dict[str, str]:
    return {"S": datetime.now(UTC).isoformat()}


async def _main(kind: str, url: str, prefix: str, total: int) -> None:
    async with open_client(url) as client:
        loop = Loop(client, prefix=prefix, counter=Counter.of_this_process())
        if kind == "single":
            await loop.run(total, size=SINGLE_PAGE, work=loop.single)
        else:
            await loop.run(total, size=BATCH, work=loop.batched)
        await anyio.sleep_forever()  # the reader of our CPU time ends the process


if __name__ == "__main__":
    kind, url, prefix, total = sys.argv[1:]
    anyio.run(_main, kind, url, prefix, int(total))
