"""Writes to requests whose items may be full: what they remove to make room.

The history of attempts is removed first, from whatever write has no room.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from streamer_store import writes
from streamer_store.attempts import ATTEMPTS
from streamer_store.engine import Engine, Update
from streamer_store.errors import ItemTooLarge
from streamer_store.models import Claim
from streamer_store.values import Item


async def update_with_space(engine: Engine, update: Update, held: Claim | None = None) -> Item:
    """Write the update. If the item has no room for it, write it without Attempts.

    `held`: the claim that the update belongs to. It shows whether the item has attempts.

    Raises what the engine raises. ItemTooLarge: it does not fit without Attempts either.
    """
    try:
        return await engine.update(update)
    except ItemTooLarge:
        has_attempts = held is None or held.request.attempts or ATTEMPTS in update.sets
        if not has_attempts or ATTEMPTS in update.removes:
            raise
    return await engine.update(writes.without_attempts(update))


async def write_first_that_fits(
    updates: Iterable[Update], write: Callable[[Update], Awaitable[object]]
) -> None:
    """Write the first update that fits into the item. Raises ItemTooLarge if none does."""
    too_large = None
    for update in updates:
        try:
            await write(update)
        except ItemTooLarge as error:
            too_large = error
        else:
            return
    if too_large is not None:
        raise too_large
