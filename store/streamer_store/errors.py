"""The errors that the stores raise, of the base class `StoreError`, and exception groups."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamer_store.transitions import RequestStatus


class StoreError(Exception):
    """A store operation failed.

    - `message`: what is wrong, without the place.
    - `operation`: the method of the store. Empty: not known.
    - `table`: the full name of the DynamoDB table. Empty: not known.
    - `key`: the id of the item. Empty: not known.
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
        location = {"operation": self.operation, "table": self.table, "key": self.key}
        known = ", ".join(f"{name}={value}" for name, value in location.items() if value)
        return f"{self.message} ({known})" if known else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # Python copies and pickles an exception by its positional arguments only. These classes
        # also have keyword arguments.
        return _restore, (type(self), self.args, self.__dict__)


def _restore(kind: type[StoreError], args: tuple[Any, ...], state: dict[str, Any]) -> StoreError:
    """Return a pickled or copied error."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class NotFound(StoreError):
    """There is no item with this key, or no backup of this name."""


class AlreadyExists(StoreError):
    """There is such an item, backup or table already. It was not overwritten."""


class InvalidInput(StoreError):
    """The arguments or settings are wrong. The same call always fails."""


class ValidationError(InvalidInput):
    """A value is wrong. `field`: the argument or field that has it."""

    def __init__(
        self, field: str, message: str, *, operation: str = "", table: str = "", key: str = ""
    ) -> None:
        super().__init__(f"{field}: {message}", operation=operation, table=table, key=key)
        self.field = field


class ItemTooLarge(ValidationError):
    """The item would be too large. `size`: in bytes, or None if DynamoDB refused the item."""

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
    """The request's status, or its RetryAfter, does not allow the operation.

    `status`: the status that the request had. None: it is unknown, or there is no request.
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
    """Another process changed the item between the read and the write. Read it again."""


class ClaimLost(StoreError):
    """The claim no longer holds the request. Stop the handler and write nothing more.

    `status`: the text of the request's status now. None: there is no request.
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
    """The claim no longer holds the request, because the request was cancelled."""


class Undecodable(StoreError):
    """An item cannot be decoded. `reason`: which attribute is wrong, and how."""

    def __init__(self, reason: str, *, operation: str = "", table: str = "", key: str = "") -> None:
        super().__init__(
            f"item cannot be decoded: {reason}", operation=operation, table=table, key=key
        )
        self.reason = reason


class StoreUnavailable(StoreError):
    """DynamoDB throttled the call, failed or did not answer, and the client's retries ended.

    A write may or may not have taken effect.
    """


class AccessDenied(StoreError):
    """The credentials are missing or wrong, or their policy does not allow the call."""


class TableMissing(StoreError):
    """The table or the index does not exist."""


class InvalidExport(StoreError):
    """An export is not whole, was changed, or is not an export of this program.

    - `file`: the name of the file in the export. Empty: the export as a whole.
    - `line`: the number of the line, from 1. 0: the file as a whole.
    """

    def __init__(
        self,
        reason: str,
        *,
        target: str,
        file: str = "",
        line: int = 0,
        operation: str = "",
        table: str = "",
        key: str = "",
    ) -> None:
        place = f"{target}/{file}" if file else target
        message = f"{place}, line {line}: {reason}" if line else f"{place}: {reason}"
        super().__init__(message, operation=operation, table=table, key=key)
        self.file = file
        self.line = line


class TargetFailed(StoreError):
    """The directory or the bucket of an export cannot be read or written."""


class WorkersRunning(StoreError):
    """Workers run on the tables into which an import would write."""


@contextmanager
def located(operation: str, table: str) -> Iterator[None]:
    """Add the operation and the table to an Undecodable that the block raises."""
    try:
        yield
    except Undecodable as error:
        error.operation = error.operation or operation
        error.table = error.table or table
        raise


@contextmanager
def ungrouped(*kinds: type[Exception]) -> Iterator[None]:
    """Raise one error of a task group in place of the whole group.

    Several tasks often fail for the same reason. The first error is raised if all are StoreErrors
    or of `kinds`. Otherwise the group is raised unchanged.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        errors = leaf_exceptions(group)
        if not all(isinstance(error, (StoreError, *kinds)) for error in errors):
            raise
        raise errors[0] from group


def leaf_exceptions(error: BaseException) -> list[BaseException]:
    """Return the exceptions inside a group and its nested groups, in order, without the groups.

    An exception that is no group is returned as the only one. The list is never empty.
    """
    leaves: list[BaseException] = []
    remaining = [error]
    while remaining:  # a loop, since a handler may nest groups deeper than Python recurses
        error = remaining.pop()
        if isinstance(error, BaseExceptionGroup):
            remaining.extend(reversed(error.exceptions))
        else:
            leaves.append(error)
    return leaves


def is_not_found(error: BaseException) -> bool:
    """Return whether the error is a NotFound."""
    return isinstance(error, NotFound)


def is_already_exists(error: BaseException) -> bool:
    """Return whether the error is an AlreadyExists."""
    return isinstance(error, AlreadyExists)


def is_invalid_input(error: BaseException) -> bool:
    """Return whether the error is an InvalidInput, including ValidationError and ItemTooLarge."""
    return isinstance(error, InvalidInput)


def is_request_not_pending(error: BaseException) -> bool:
    """Return whether the error is a RequestNotPending."""
    return isinstance(error, RequestNotPending)


def is_concurrent_modification(error: BaseException) -> bool:
    """Return whether the error is a ConcurrentModification."""
    return isinstance(error, ConcurrentModification)


def is_claim_lost(error: BaseException) -> bool:
    """Return whether the error is a ClaimLost, including Cancelled."""
    return isinstance(error, ClaimLost)


def is_cancelled(error: BaseException) -> bool:
    """Return whether the error is a Cancelled."""
    return isinstance(error, Cancelled)


def is_unavailable(error: BaseException) -> bool:
    """Return whether the error is a StoreUnavailable."""
    return isinstance(error, StoreUnavailable)
