"""Requests and workers by the beginnings of their ids.

There is no index by the beginning of an id. So an id is first read as a whole, with the one call
that this takes. Only if there is no such request are the newest entries of StatusIndex searched:
10,000 of UUIDs cost 220 read units (measured on DynamoDB Local).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, TypeVar

from streamer_store import AccessDenied, InvalidInput, NotFound, RequestStatus, Stores
from streamer_worker.cli.columns import worker_name
from streamer_worker.cli.output import confirm_many, spinner
from streamer_worker.cli.selecting import Entry, RequestFilter
from streamer_worker.sanitize import one_line

MIN_CHARS: Final = 4
"""A shorter text is taken for a whole id."""
MAX_SEARCHED: Final = 10_000
"""How many of the newest requests are searched."""
_LISTED: Final = 5
_LISTED_CHARS: Final = 100

# As `enqueue` makes them. No id begins with a whole one.
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Result = TypeVar("Result")


@dataclass(slots=True)
class _Search:
    """What the search for the beginning of an id has found."""

    matches: dict[str, Entry] = field(default_factory=dict)
    """By id. No more than are listed in an error, and one more."""
    is_whole: bool = True
    """Whether all requests were searched, or enough of them to see that several match."""


async def with_request(
    stores: Stores, text: str, read: Callable[[str], Awaitable[Result]]
) -> tuple[str, Result]:
    """Call `read` with the id that `text` is or begins. Return the id and the result.

    `read`: raises NotFound for an id that does not exist. Raises NotFound; InvalidInput if
    several of the newest 10,000 requests match.
    """
    try:
        return text, await read(text)
    except NotFound as error:
        found = await _search(stores, text, error)
        request_id, _ = _only_match(found, text, error)
    return request_id, await read(request_id)


async def change_request(
    stores: Stores,
    text: str,
    change: Callable[[str], Awaitable[Result]],
    *,
    verb: str,
) -> tuple[str, Result]:
    """Call `change` as `with_request` does, but ask first if `text` only begins the id.

    `verb`: as in "cancel". It asks whatever --yes says: a script that names a deleted request must
    not change another one whose id happens to begin so. Nothing is changed unless all requests
    could be searched. Exits as `confirm_many` does. Raises NotFound; InvalidInput.
    """
    try:
        return text, await change(text)
    except NotFound as error:
        found = await _search(stores, text, error)
        request_id, entry = _only_match(found, text, error)
        if not found.is_whole:
            raise InvalidInput(
                f"{request_id} begins with this, but there are more than {MAX_SEARCHED:,} requests,"
                " so others may too: give the whole id",
                operation=error.operation,
                key=text,
            ) from error
    confirm_many(
        f"{verb.capitalize()} {request_id} ({entry.status}, {entry.action})?",
        yes=False,
        without_terminal="give the whole id",
    )
    return request_id, await change(request_id)


async def with_worker(
    stores: Stores, text: str, order: Callable[[str], Awaitable[bool]]
) -> str | None:
    """Call `order` with the id of a worker that `text` is, or whose name it begins. Return the id.

    `order`: returns whether there is such a worker. The rows are read consistently and all of
    them, so a match is the only one. Returns None if there is none. Raises InvalidInput if
    several match.
    """
    if await order(text):
        return text
    if len(text) < MIN_CHARS:
        return None
    matches = [
        row.worker_id
        for row in await stores.workers.list()
        if row.worker_id.startswith(text) or worker_name(row.worker_id).startswith(text)
    ]
    if len(matches) > 1:
        raise InvalidInput(_ambiguous("workers", sorted(matches)), key=text)
    return matches[0] if matches and await order(matches[0]) else None


async def _search(stores: Stores, prefix: str, error: NotFound) -> _Search:
    """Search the newest requests. Raises `error` for what is too short, or a whole UUID.

    Raises it also where the index may not be read.
    """
    found = _Search()
    if len(prefix) < MIN_CHARS:
        error.message += f"; at least {MIN_CHARS} characters of an id are needed to find it"
        raise error
    if _UUID.fullmatch(prefix):
        raise error
    searched = 0
    entries = RequestFilter().newest_first(stores.requests, list(RequestStatus))
    try:
        with spinner("Searching for the request"):
            async with aclosing(entries):
                async for entry in entries:
                    if searched == MAX_SEARCHED:
                        found.is_whole = False
                        break
                    searched += 1
                    if entry.request_id.startswith(prefix):
                        found.matches[entry.request_id] = entry
                        if len(found.matches) > _LISTED:
                            break
    except AccessDenied:
        raise error from None
    return found


def _only_match(found: _Search, prefix: str, error: NotFound) -> tuple[str, Entry]:
    """Return the only match and its id. Raises InvalidInput, or `error` with an explanation."""
    if not found.matches:
        error.message += (
            ", and none begins with this id"
            if found.is_whole
            else f", and none of the {MAX_SEARCHED:,} newest begins with this id: give the whole id"
        )
        raise error
    if len(found.matches) > 1:
        ids = [f"{entry.request_id} ({entry.status})" for entry in found.matches.values()]
        raise InvalidInput(
            _ambiguous("requests", ids), operation=error.operation, key=prefix
        ) from error
    return next(iter(found.matches.items()))


def _ambiguous(things: str, ids: list[str]) -> str:
    listed = ", ".join(one_line(each, _LISTED_CHARS) for each in ids[:_LISTED])
    if len(ids) > _LISTED:
        return f"more than {_LISTED} {things} begin with this id: {listed}, …"
    return f"{len(ids)} {things} begin with this id: {listed}"
