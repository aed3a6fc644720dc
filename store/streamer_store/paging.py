"""Reading of all pages of a query or a scan."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from streamer_store.engine import Page
from streamer_store.values import Item


async def read_all(read_page: Callable[[Item | None], Awaitable[Page]]) -> list[Item]:
    """Return the items of all pages, in order.

    `read_page`: reads the page that follows the given key, or the first page if it is None.
    """
    items: list[Item] = []
    after = None
    while True:
        page = await read_page(after)
        items += page.items
        after = page.after
        if after is None:
            return items
