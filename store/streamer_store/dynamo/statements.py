"""What became of the single statements of a BatchExecuteStatement call (pure).

The codes are not those of single calls: DynamoDB API Reference, BatchStatementError. The client
retries whole calls only, and does not look at the errors of statements.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from streamer_store.engine import Refusal, Update, Write
from streamer_store.errors import StoreUnavailable
from streamer_store.values import Item

OPERATION: Final = "BatchExecuteStatement"
_REFUSALS: Final = {
    "ConditionalCheckFailed": Refusal.CONDITION_FAILED,
    "DuplicateItem": Refusal.CONDITION_FAILED,
    "AccessDenied": Refusal.DENIED,
    "InternalServerError": Refusal.THROTTLED,
    "ProvisionedThroughputExceeded": Refusal.THROTTLED,
    "RequestLimitExceeded": Refusal.THROTTLED,
    "ThrottlingError": Refusal.THROTTLED,
    "TransactionConflict": Refusal.THROTTLED,
}
# Errors that more capacity would prevent.
_CAPACITY: Final = frozenset(
    {"ProvisionedThroughputExceeded", "RequestLimitExceeded", "ThrottlingError"}
)


def outcome(write: Write, response: Mapping[str, Any]) -> Item | Refusal:
    """Return the item after the write, or why DynamoDB did not carry it out.

    `response`: one of `Responses`. The item is empty unless the write is `returning`. Raises
    StoreUnavailable if the response has no item, or another one, where the write returns one.
    """
    error = response.get("Error")
    if error is not None:
        return _REFUSALS.get(error["Code"], Refusal.INVALID)
    if not isinstance(write, Update) or not write.returning:
        return {}
    item: Item = response.get("Item") or {}
    if item.get(write.table.hash_key) != {"S": write.key}:
        raise StoreUnavailable("the answer has a wrong Item", operation=OPERATION, key=write.key)
    return item


def failed_tries(responses: list[Mapping[str, Any]]) -> list[tuple[str, bool]]:
    """Return the code of each error, and whether more capacity would have prevented it.

    A condition that did not hold is not an error.
    """
    codes = [response["Error"]["Code"] for response in responses if response.get("Error")]
    return [
        (code, code in _CAPACITY)
        for code in codes
        if _REFUSALS.get(code) is not Refusal.CONDITION_FAILED
    ]
