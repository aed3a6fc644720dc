"""What the stores need of a database: DynamoDB's own operations, as data.

Two engines do the same: `dynamo` (I/O) and `memory`. The stores above them are written once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Protocol

from streamer_store.schema import Index, Table
from streamer_store.values import AttributeValue, Item

_GETS_AT_ONCE: Final = 100  # BatchGetItem takes no more


@dataclass(frozen=True, slots=True)
class Absent:
    name: str


@dataclass(frozen=True, slots=True)
class Present:
    name: str


@dataclass(frozen=True, slots=True)
class OneOf:
    name: str
    values: tuple[AttributeValue, ...]


@dataclass(frozen=True, slots=True)
class Below:
    """The number stored is smaller; false when there is none."""

    name: str
    value: AttributeValue


Condition = Absent | Present | OneOf | Below


def equals(name: str, value: AttributeValue | None) -> Condition:
    """The attribute is exactly `value`, or absent when that is None."""
    return Absent(name) if value is None else OneOf(name, (value,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    table: Table
    item: Item
    conditions: tuple[Condition, ...] = ()

    @property
    def key(self) -> str:
        return str(self.item[self.table.hash_key]["S"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One UpdateItem. `initial` sets only what is absent; `adds` and `deletes` work on
    numbers and sets as DynamoDB's ADD and DELETE do. An attribute stands in one part only.
    `returning`: whether the caller wants the item back, which may be large.
    """

    table: Table
    key: str
    sets: Mapping[str, AttributeValue] = field(default_factory=dict)
    initial: Mapping[str, AttributeValue] = field(default_factory=dict)
    removes: tuple[str, ...] = ()
    adds: Mapping[str, AttributeValue] = field(default_factory=dict)
    deletes: Mapping[str, AttributeValue] = field(default_factory=dict)
    conditions: tuple[Condition, ...] = ()
    returning: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    table: Table
    key: str
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One page of an index, in the order of its range key, from `at_least` on where that is
    given. `counts`: only how many there are is wanted. `attributes`: only these, or all that the
    index carries.
    """

    table: Table
    index: Index
    value: str
    at_least: AttributeValue | None = None
    counts: bool = False
    attributes: tuple[str, ...] = ()
    ascending: bool = True
    limit: int | None = None
    after: Item | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """One page of one segment of a table, consistent. `unless_between` leaves out items whose
    attribute is text that sorts from the one given to the other.
    """

    table: Table
    segment: int = 0
    segments: int = 1
    attributes: tuple[str, ...] = ()
    unless_between: tuple[str, str, str] | None = None
    after: Item | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some items, or how many there are, and where to go on: None at the end."""

    items: Sequence[Item]
    after: Item | None = None
    count: int = 0


@dataclass(frozen=True, slots=True)
class Difference:
    """How a table is not as expected.

    `blocking`: the worker cannot do its work like this. `creatable`: `create_tables` mends it.
    """

    table: str
    text: str
    blocking: bool
    creatable: bool = False

    def __str__(self) -> str:
        return f"table {self.table}: {self.text}"


class ConditionFailed(Exception):
    """A conditional write did not happen. `old` is the item as it was, None when absent.

    Internal to this package: the stores turn it into their own errors.
    """

    def __init__(self, old: Item | None) -> None:
        super().__init__("the condition of a write failed")
        self.old = old


class Engine(Protocol):
    """Every method raises StoreUnavailable, AccessDenied, TableMissing or StoreError;
    conditional writes raise ConditionFailed; writes raise ItemTooLarge past 400 KB.
    """

    def table_name(self, table: Table) -> str: ...

    async def get(self, table: Table, key: str) -> Item | None:
        """Return the item, read consistently."""
        ...

    async def get_many(self, table: Table, keys: Sequence[str]) -> list[Item]:
        """Return those that exist, of 100 at most, read consistently, in no order."""
        ...

    async def put(self, put: Put) -> None: ...

    async def update(self, update: Update) -> Item:
        """Return the whole item as it is after the update; empty unless it is `returning`."""
        ...

    async def delete(self, delete: Delete) -> None: ...

    async def delete_many(self, table: Table, keys: Sequence[str]) -> None: ...

    async def query(self, query: Query) -> Page: ...

    async def scan(self, scan: Scan) -> Page: ...

    async def create_tables(self) -> None:
        """Make what is missing and wait until it can be used; TTL is on afterwards."""
        ...

    async def check_tables(self) -> list[Difference]:
        """Return every difference from the schema; none when all is well."""
        ...


def pages(keys: Sequence[str]) -> Iterator[list[str]]:
    """Yield the keys in parts that `get_many` takes."""
    rest = iter(keys)
    while page := list(islice(rest, _GETS_AT_ONCE)):
        yield page
