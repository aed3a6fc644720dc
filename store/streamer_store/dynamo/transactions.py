"""Send transactions, and say why one was cancelled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import anyio

from streamer_store.backoff import full_jitter
from streamer_store.dynamo import render
from streamer_store.dynamo.client import CheckedClient
from streamer_store.dynamo.faults import TRANSACTION, TransactionCancelledError
from streamer_store.engine import Check, Delete, Put, TransactionFailed, TransactionPart, Update
from streamer_store.errors import AccessDenied, InvalidInput, ItemTooLarge, StoreUnavailable
from streamer_store.schema import Table

if TYPE_CHECKING:
    import random

_ATTEMPTS: Final = 10
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0
_NONE: Final = "None"
_CONDITION_FAILED: Final = "ConditionalCheckFailed"
_TEMPORARY: Final = frozenset(
    {"TransactionConflict", "ProvisionedThroughputExceeded", "ThrottlingError"}
)
"""Reasons that end by themselves (API Reference, TransactionCanceledException)."""
_DENIED: Final = "AccessDenied"
_TOO_LARGE: Final = ("maximum allowed size", "ItemCollectionSizeLimitExceeded")


async def send(
    calls: CheckedClient,
    parts: Sequence[TransactionPart],
    *,
    table_name: Callable[[Table], str],
    rng: random.Random,
) -> None:
    """Send a transaction, again while other writes to its items are in the way.

    Raises TransactionFailed; ItemTooLarge; InvalidInput; StoreUnavailable after ten attempts.
    """
    names = [table_name(part.table) for part in parts]
    items = [_item(part, name) for part, name in zip(parts, names, strict=True)]
    for attempt in range(_ATTEMPTS):
        if attempt:
            pause = full_jitter(rng, attempt, first=_FIRST_PAUSE, longest=_LONGEST_PAUSE)
            await anyio.sleep(pause)
        try:
            await calls.call(TRANSACTION, table=names[0], TransactItems=items)
        except TransactionCancelledError as cancelled:
            temporary = _raise_final(cancelled, parts, names)
            for code in temporary:
                calls.report_failure(TRANSACTION, code, throttled=code != "TransactionConflict")
        else:
            return
    message = f"a transaction was cancelled {_ATTEMPTS} times: {', '.join(sorted(temporary))}"
    raise StoreUnavailable(message, operation=TRANSACTION, table=names[0])


def _item(part: TransactionPart, name: str) -> dict[str, Any]:
    """Return a part as an entry of TransactItems."""
    match part:
        case Put():
            kind, arguments = "Put", render.put(part)
        case Update():
            kind, arguments = "Update", render.update(part)
            del arguments["ReturnValues"]  # a transaction returns no items
        case Delete():
            kind, arguments = "Delete", render.delete(part)
        case Check():
            kind, arguments = "ConditionCheck", render.delete(part)
    return {kind: {"TableName": name, **arguments}}


def _raise_final(
    cancelled: TransactionCancelledError, parts: Sequence[TransactionPart], names: Sequence[str]
) -> set[str]:
    """Raise the reason that another attempt would meet again, or return the temporary ones."""
    reasons = cancelled.reasons
    if len(reasons) != len(parts):
        raise StoreUnavailable(
            "a cancelled transaction has another number of parts", operation=TRANSACTION
        )
    temporary, failed = set(), {}
    for place, (reason, part) in enumerate(zip(reasons, parts, strict=True)):
        code, message = reason["Code"], str(reason.get("Message") or "")
        where: Any = {"operation": TRANSACTION, "table": names[place], "key": part.key}
        if code == _CONDITION_FAILED:
            failed[place] = reason.get("Item")
        elif code in _TEMPORARY:
            temporary.add(code)
        elif code.startswith(_DENIED):
            raise AccessDenied(f"{code}: {message}", **where)
        elif any(text in code + message for text in _TOO_LARGE):
            raise ItemTooLarge("item", message, **where)
        elif code != _NONE:
            raise InvalidInput(f"{code}: {message}", **where)
    if failed:
        raise TransactionFailed(failed)
    if not temporary:
        raise StoreUnavailable(
            "a transaction was cancelled without a reason", operation=TRANSACTION
        )
    return temporary
