"""The interface between the stores and a database: DynamoDB's operations, as data.

`DynamoEngine` calls DynamoDB. `MemoryEngine` does the same on dictionaries, for tests. The
stores are written once, over either of them.

Limits: DynamoDB Developer Guide, "Service, account, and table quotas", and the API Reference of
each operation.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Final, Protocol, TypeVar

from streamer_store.conditions import Condition
from streamer_store.schema import Index, Table
from streamer_store.values import AttributeValue, Item


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """A PutItem: replaces the whole item, if all conditions hold."""

    table: Table
    item: Item
    conditions: tuple[Condition, ...] = ()

    @property
    def key(self) -> str:
        """The hash key of the item."""
        return str(self.item[self.table.hash_key]["S"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """An UpdateItem: changes attributes of one item, if all conditions hold.

    It creates the item where there is none, unless a condition requires one. An attribute may
    be in one of the five parts only.

    - `sets` replaces attributes.
    - `if_not_exists` sets attributes that are absent.
    - `removes` deletes attributes.
    - `adds` adds to numbers, and adds members to sets. An absent number counts as 0.
    - `deletes` deletes members of sets.

    `returning`: whether `Engine.update` returns the item, which may be large.
    """

    table: Table
    key: str
    sets: Mapping[str, AttributeValue] = field(default_factory=dict)
    if_not_exists: Mapping[str, AttributeValue] = field(default_factory=dict)
    removes: tuple[str, ...] = ()
    adds: Mapping[str, AttributeValue] = field(default_factory=dict)
    deletes: Mapping[str, AttributeValue] = field(default_factory=dict)
    conditions: tuple[Condition, ...] = ()
    returning: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """A DeleteItem, if all conditions hold. Without conditions, an absent item is no error."""

    table: Table
    key: str
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A ConditionCheck: a part of a transaction that changes nothing."""

    table: Table
    key: str
    conditions: tuple[Condition, ...]


Write = Put | Update | Delete
TransactionPart = Write | Check
MAX_TRANSACTION_PARTS: Final = 100
"""The most parts of a transaction (API Reference, TransactWriteItems)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A Query for one page of a global secondary index, in the order of its range key.

    - `value`: the value of the index's hash key.
    - `at_least`: the smallest value of the range key. None starts with the first item.
    - `at_most`: the largest value of the range key. None ends with the last item.
    - `count_only`: return how many items there are, and no items.
    - `attributes`: the attributes to return. Empty returns all that the index projects.
    - `limit`: the most items of the page. None reads up to 1 MB, DynamoDB's own limit.
    - `exclusive_start_key`: the `last_evaluated_key` of the previous page.
    """

    table: Table
    index: Index
    value: str
    at_least: AttributeValue | None = None
    at_most: AttributeValue | None = None
    count_only: bool = False
    attributes: tuple[str, ...] = ()
    ascending: bool = True
    limit: int | None = None
    exclusive_start_key: Item | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """A consistent Scan for one page of one segment of a table.

    The page has every item that was written before the Scan began.

    - `segment`: which of the `segments` to read, from 0. Segments may be read in parallel.
    - `attributes`: the attributes to return. Empty returns all.
    - `not_between`: an attribute, and two texts. Leaves out the items whose attribute is text
      between them, both included.
    - `limit`: the most items to read, before the filter. None reads up to 1 MB.
    - `exclusive_start_key`: the `last_evaluated_key` of the previous page.
    """

    table: Table
    segment: int = 0
    segments: int = 1
    attributes: tuple[str, ...] = ()
    not_between: tuple[str, str, str] | None = None
    limit: int | None = None
    exclusive_start_key: Item | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a Query or a Scan.

    `items` may be empty although more pages follow. `last_evaluated_key` is None on the last
    page. `count` is the number of items, also for a query that is `count_only`.
    """

    items: Sequence[Item]
    last_evaluated_key: Item | None = None
    count: int = 0


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference between a table and its schema.

    `blocking`: the worker cannot work with it. `creatable`: `create_tables` repairs it.
    """

    table: str
    text: str
    blocking: bool
    creatable: bool = False

    def __str__(self) -> str:
        return f"table {self.table}: {self.text}"


class ConditionFailed(Exception):
    """A condition of a write did not hold, so the write had no effect.

    `old` is the item in the table, or None where there is none. Internal to this package: the
    stores raise errors of their own instead.
    """

    def __init__(self, old: Item | None) -> None:
        super().__init__("the condition of a write failed")
        self.old = old


class TransactionFailed(Exception):
    """Conditions of a transaction did not hold, so none of its parts had an effect.

    `old`: for each part whose condition did not hold, by its position, the item in the table, or
    None where there is none. Internal to this package, as ConditionFailed.
    """

    def __init__(self, old: Mapping[int, Item | None]) -> None:
        super().__init__("conditions of a transaction failed")
        self.old = old


class Refusal(Enum):
    """Why DynamoDB did not carry out one write of a batch. The write had no effect."""

    CONDITION_FAILED = auto()
    """A condition did not hold. DynamoDB does not return the item here."""
    THROTTLED = auto()
    """The write may succeed a little later."""
    DENIED = auto()
    """The policy does not allow the write in a batch."""
    INVALID = auto()
    """The write fails on its own too, or DynamoDB does not accept it in a batch."""


class Engine(Protocol):
    """DynamoDB's operations on the four tables.

    Every asynchronous method raises StoreUnavailable when the call failed and may succeed
    later, AccessDenied, TableMissing, or InvalidInput. After StoreUnavailable a write may have
    taken effect. The client may also send one write twice: the second copy of a conditional
    write then raises ConditionFailed although the first took effect.
    """

    def table_name(self, table: Table) -> str:
        """Return the full name of a table."""
        ...

    async def get(self, table: Table, key: str) -> Item | None:
        """Return the item with this hash key, read consistently, or None (GetItem)."""
        ...

    async def get_many(
        self, table: Table, keys: Sequence[str], *, attributes: tuple[str, ...] = ()
    ) -> list[Item]:
        """Return the items that exist, read consistently, in no order (BatchGetItem).

        `attributes`: the attributes to return, with the hash key. Empty returns all.
        `keys` may be any number. DynamoDB takes 100 per call, so a longer list is several
        calls, and the items are not a snapshot of one moment. A repeated key counts once.
        """
        ...

    async def put(self, put: Put) -> None:
        """Write a whole item (PutItem).

        Raises ConditionFailed, and ItemTooLarge for an item of more than 400 KB.
        """
        ...

    async def update(self, update: Update) -> Item:
        """Change attributes of an item (UpdateItem).

        Returns the whole item after the update, or an empty one unless it is `returning`.
        Raises ConditionFailed, and ItemTooLarge where the item would exceed 400 KB.
        """
        ...

    async def delete(self, delete: Delete) -> None:
        """Delete an item (DeleteItem). Raises ConditionFailed."""
        ...

    async def put_many(self, table: Table, items: Sequence[Item]) -> None:
        """Write whole items, with different keys (BatchWriteItem).

        `items` may be any number. DynamoDB takes 25 per call, so a longer list is
        several calls: after an error, some items may be written and others not. An item that
        DynamoDB refuses makes it refuse its whole call.
        """
        ...

    async def delete_many(self, table: Table, keys: Sequence[str]) -> None:
        """Delete the items with these hash keys (BatchWriteItem). Absent items are no error.

        `keys` may be any number. DynamoDB takes 25 per call, so a longer list is several
        calls: after an error, some items may be deleted and others not.
        """
        ...

    async def transact(self, parts: Sequence[TransactionPart]) -> None:
        """Write several items, all or none (TransactWriteItems).

        The parts are 100 at most, of different items, and 4 MB in all. Other writes to the same
        items are waited for. A copy that the client sends after a lost answer has no effect: it
        has the same token, which DynamoDB knows for ten minutes.

        Raises TransactionFailed, and ItemTooLarge for an item of more than 400 KB.
        """
        ...

    async def query(self, query: Query) -> Page:
        """Return one page of an index (Query).

        An index lags behind its table, usually by less than a second: an item may be missing,
        or have attributes that the table no longer has.
        """
        ...

    async def scan(self, scan: Scan) -> Page:
        """Return one page of a table (Scan)."""
        ...

    async def has_index(self, table: Table, index: Index) -> bool:
        """Return whether the table has this index, ACTIVE and as in the schema (DescribeTable)."""
        ...

    async def create_tables(self) -> None:
        """Create the tables that are missing, wait until all are ACTIVE, and enable TTL.

        Existing tables get the optional indexes that they lack. Nothing else of them changes:
        neither their keys nor their other indexes. Raises StoreUnavailable for a table that is
        not ACTIVE after 300 seconds.
        """
        ...

    async def check_tables(self) -> list[Difference]:
        """Return every difference between the tables and the schema."""
        ...

    async def account(self) -> str | None:
        """Return the id of the AWS account that has the tables (DescribeTable).

        None: in memory and on DynamoDB Local, which have no account, and without a table.
        """
        ...


class BatchEngine(Engine, Protocol):
    """An engine that can also send several writes in one call."""

    async def write_many(self, writes: Sequence[Write]) -> list[Item | Refusal]:
        """Send writes to different keys in one call, and return what became of each, in order.

        The writes are 25 at most, of the kinds that `write_queue.can_share_call` accepts. Each
        stands alone: one may take effect while another does not. The item is empty unless the
        write is `returning`. Raises what every method raises, for the call as a whole.
        """
        ...


_PagedRequest = TypeVar("_PagedRequest", Query, Scan)


async def paginate(
    read: Callable[[_PagedRequest], Awaitable[Page]], request: _PagedRequest
) -> AsyncGenerator[Page, None]:
    """Yield each page of a query or scan, from `request` to the last one.

    `read` is `Engine.query` or `Engine.scan`. Use `contextlib.aclosing` where the loop may end
    before the last page.
    """
    while True:
        page = await read(request)
        yield page
        if page.last_evaluated_key is None:
            return
        request = replace(request, exclusive_start_key=page.last_evaluated_key)
