"""Everything a store may raise. `StoreError` is the root."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamer_store.transitions import RequestStatus


class StoreError(Exception):
    """A store operation did not succeed.

    `operation` is the store's method, `table` the DynamoDB table and `key` the id concerned;
    each is empty where it is not known.
    """

    def __init__(
        self, message: str, *, operation: str = "", table: str = "", key: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.operation = operation
        self.table = table
        self.key = key

    def __str__(self) -> str:
        where = {"operation": self.operation, "table": self.table, "key": self.key}
        told = ", ".join(f"{name}={value}" for name, value in where.items() if value)
        return f"{self.message} ({told})" if told else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is copied from its positional arguments alone, and these have more.
        return _remade, (type(self), self.args, self.__dict__)


def _remade(kind: type[StoreError], args: tuple[Any, ...], state: dict[str, Any]) -> StoreError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class NotFound(StoreError):
    """No item has this key."""


class AlreadyExists(StoreError):
    """An item with this key exists; nothing was overwritten."""


class InvalidInput(StoreError):
    """The call can never succeed as it was made."""


class ValidationError(InvalidInput):
    """A value is not acceptable. `field` names it."""

    def __init__(
        self, field: str, message: str, *, operation: str = "", table: str = "", key: str = ""
    ) -> None:
        super().__init__(f"{field}: {message}", operation=operation, table=table, key=key)
        self.field = field


class ItemTooLarge(ValidationError):
    """The item would not fit. `size` is in bytes, or None when DynamoDB itself refused it."""

    def __init__(
        self,
        field: str,
        message: str,
        *,
        size: int | None = None,
        operation: str = "",
        table: str = "",
        key: str = "",
    ) -> None:
        super().__init__(field, message, operation=operation, table=table, key=key)
        self.size = size


class RequestNotPending(StoreError):
    """The request's status, or its RetryAfter, does not allow the move.

    `status` is the one that the request had, or None where it is none that we know.
    """

    def __init__(
        self,
        message: str,
        *,
        status: RequestStatus | None = None,
        operation: str = "",
        table: str = "",
        key: str = "",
    ) -> None:
        super().__init__(message, operation=operation, table=table, key=key)
        self.status = status


class ConcurrentModification(StoreError):
    """Somebody else changed the item between our look and our write; look again."""


class ClaimLost(StoreError):
    """The claim no longer holds the request: stop the handler, write nothing more.

    `status` is the raw status found, or None when the request is gone.
    """

    def __init__(
        self,
        message: str,
        *,
        status: str | None = None,
        operation: str = "",
        table: str = "",
        key: str = "",
    ) -> None:
        super().__init__(message, operation=operation, table=table, key=key)
        self.status = status


class Cancelled(ClaimLost):
    """The claim ended because the request was cancelled."""


class Undecodable(StoreError):
    """An item does not read as the record it should be. `reason` names the attribute."""

    def __init__(self, reason: str, *, operation: str = "", table: str = "", key: str = "") -> None:
        super().__init__(
            f"item cannot be decoded: {reason}", operation=operation, table=table, key=key
        )
        self.reason = reason


class StoreUnavailable(StoreError):
    """DynamoDB throttled, failed or did not answer, after the client's own retries.

    The write may or may not have taken effect.
    """


class AccessDenied(StoreError):
    """Credentials are missing or wrong, or their policy does not allow the call."""


class TableMissing(StoreError):
    """The table or the index does not exist."""


@contextmanager
def located(operation: str, table: str) -> Iterator[None]:
    """Have an Undecodable raised in the block name the operation and the table."""
    try:
        yield
    except Undecodable as error:
        error.operation = error.operation or operation
        error.table = error.table or table
        raise


@contextmanager
def ungrouped(*kinds: type[Exception]) -> Iterator[None]:
    """Raise the first store error, or one of `kinds`, of a task group in place of the group:
    it is one outage, told by several tasks. A group that holds anything else is raised as it is.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        if group.split(lambda each: isinstance(each, (StoreError, *kinds)))[1] is not None:
            raise
        found: BaseException = group
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        raise found from group


def is_not_found(error: BaseException) -> bool:
    return isinstance(error, NotFound)


def is_already_exists(error: BaseException) -> bool:
    return isinstance(error, AlreadyExists)


def is_invalid_input(error: BaseException) -> bool:
    return isinstance(error, InvalidInput)


def is_request_not_pending(error: BaseException) -> bool:
    return isinstance(error, RequestNotPending)


def is_concurrent_modification(error: BaseException) -> bool:
    return isinstance(error, ConcurrentModification)


def is_claim_lost(error: BaseException) -> bool:
    return isinstance(error, ClaimLost)


def is_cancelled(error: BaseException) -> bool:
    return isinstance(error, Cancelled)


def is_unavailable(error: BaseException) -> bool:
    return isinstance(error, StoreUnavailable)
