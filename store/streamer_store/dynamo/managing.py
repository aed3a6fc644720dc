"""Calls that manage several tables at once."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

import anyio

from streamer_store.dynamo.client import CheckedClient
from streamer_store.dynamo.faults import error_code
from streamer_store.errors import StoreError, ungrouped

# Seconds. DynamoDB refuses backups for some minutes after a table was created.
_ENABLE_TIMEOUT: Final = 600.0
_POLL_INTERVAL: Final = 1.0
_LONGEST_PAUSE: Final = 10.0

Work = Callable[[str], Coroutine[Any, Any, object]]


async def for_all(names: Iterable[str], work: Work) -> None:
    """Call `work` with each name, all at once, and wait for all. Then raise the first StoreError.

    A call that has begun is not cancelled because another one has failed: its effect would be
    unknown.
    """
    errors: list[StoreError] = []

    async def run(name: str) -> None:
        try:
            await work(name)
        except StoreError as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        for name in names:
            tasks.start_soon(run, name)
    if errors:
        raise errors[0]


async def wait_for_all(names: Iterable[str], wait: Work) -> None:
    """Call `wait` with each name, all at once. The first StoreError ends the others."""
    with ungrouped():
        async with anyio.create_task_group() as tasks:
            for name in names:
                tasks.start_soon(wait, name)


def poll_pause(waited: float, *, shortest: float) -> float:
    """Return the seconds until the next poll: a tenth of the time waited so far, up to 10 s.

    A restore may take hours, and a new table takes seconds.
    """
    return min(_LONGEST_PAUSE, max(shortest, waited / 10))


async def retry_until_enabled(
    calls: CheckedClient, operation: str, *, table: str, **arguments: Any
) -> dict[str, Any]:
    """Call an operation that DynamoDB refuses for some minutes after the table was created.

    It does so with ContinuousBackupsUnavailableException. Raises it, as StoreUnavailable, after
    ten minutes.
    """
    deadline = anyio.current_time() + _ENABLE_TIMEOUT
    while True:
        try:
            return await calls.call(operation, table=table, TableName=table, **arguments)
        except StoreError as error:
            is_new = error_code(error) == "ContinuousBackupsUnavailableException"
            if not is_new or anyio.current_time() >= deadline:
                raise
        await anyio.sleep(_POLL_INTERVAL)
