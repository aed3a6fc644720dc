"""Items to export, and what an export has."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import random
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from streamer_store import AsyncRequest, EventType, Stores, WorkerRow
from streamer_store.engine import Put, Scan, paginate
from streamer_store.schema import REQUESTS, TABLES
from streamer_store.transfer.comparing import comparable
from streamer_store.values import Item
from support import START, connection

Items = dict[str, list[Item]]
ODD: Final[dict[str, Any]] = {
    "RequestID": {"S": "odd"},
    "Status": {"S": "COMPLETED"},
    "CreatedAt": {"S": "2066-03-14T15:09:26.000000Z"},
    "Blob": {"B": b"\0\xff"},
    "Blobs": {"BS": [b"a", b"b"]},
    "Numbers": {"NS": ["1", "2.5"]},
    "Texts": {"SS": ["a", "ü\n\u2028"]},
    "Nested": {"M": {"list": {"L": [{"NULL": True}, {"BOOL": False}, {"M": {}}, {"B": b"\n"}]}}},
    "Number": {"N": "-12345678901234567890.5"},
    "Empty": {"S": ""},
}
"""A request with every type of DynamoDB, and with attributes that no release knows."""


async def fill(stores: Stores, requests: int, *, chars: int = 0) -> None:
    """Store so many requests, of which one has every type, and some items of the other tables.

    chars: the length of a text in each payload, which compresses to half of it.
    """
    await stores.engine.put(Put(table=REQUESTS, item=ODD))
    await stores.requests.enqueue_many(
        [
            AsyncRequest(
                request_id=f"r-{number:05}",
                action="a",
                connection_id="c-1",
                payload={
                    "text": "ä" * (number % 50),
                    "number": number,
                    "more": random.Random(number).randbytes(chars // 2).hex(),
                },
            )
            for number in range(requests - 1)
        ]
    )
    for number in range(3):
        await stores.connections.save(
            connection(f"c-{number}", connected_at=START, last_ping=START)
        )
        await stores.subscriptions.subscribe(f"c-{number}", "r-00001", [EventType.COMPLETE])
    await stores.workers.register(
        WorkerRow(worker_id="w-1", started_at=START - timedelta(days=1), host="h", pid=7)
    )


async def all_items(stores: Stores) -> Items:
    """Return all items, by table."""
    return {
        table.name: [
            item
            async for page in paginate(stores.engine.scan, Scan(table=table))
            for item in page.items
        ]
        for table in TABLES
    }


def exported_items(folder: Path) -> Items:
    """Return the items in the parts of an export, by table, whatever its manifest says."""
    found: Items = {table.name: [] for table in TABLES}
    for path in sorted(folder.glob("*/*.json.gz")):
        for line in gzip.decompress(path.read_bytes()).splitlines():
            item = json.loads(line)["Item"]
            found[path.parent.name].append({name: _parsed(part) for name, part in item.items()})
    return found


def names_in(folder: Path) -> list[str]:
    """Return the names of what is in a folder, in order."""
    return sorted(path.name for path in folder.iterdir())


def canonical(items: Mapping[str, Iterable[Item]]) -> dict[str, list[Any]]:
    """Return the items in a form that does not depend on their order, nor that of sets."""
    return {
        table: sorted(
            ({name: comparable(value) for name, value in item.items()} for item in of_table),
            key=repr_of_sets,
        )
        for table, of_table in items.items()
    }


def checksum(items: Mapping[str, Iterable[Item]]) -> str:
    """Return one checksum over all items."""
    return hashlib.sha256(repr_of_sets(canonical(items)).encode()).hexdigest()


def repr_of_sets(value: Any) -> str:
    """Return a text that is equal for equal values."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{k!r}:{repr_of_sets(value[k])}" for k in sorted(value)) + "}"
    if isinstance(value, frozenset):
        return "s" + repr(sorted(map(repr, value)))
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(repr_of_sets, value)) + "]"
    return repr(value)


def _parsed(value: Mapping[str, Any]) -> Any:
    """Decode the base64 of a value, without the code that is tested."""
    ((kind, content),) = value.items()
    match kind:
        case "B":
            return {kind: base64.b64decode(content)}
        case "BS":
            return {kind: [base64.b64decode(member) for member in content]}
        case "M":
            return {kind: {name: _parsed(part) for name, part in content.items()}}
        case "L":
            return {kind: [_parsed(part) for part in content]}
    return value
