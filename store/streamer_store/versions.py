"""The Versions that writes derive from other Versions, and how a write finds its own (pure)."""

from __future__ import annotations

import hashlib
from typing import Final

from streamer_store.clock import uuid_text
from streamer_store.values import Item

_CANCELS: Final = bytes.fromhex("6f1ff2c45d0b4b579c8e6a3e5a6f0d11")
_SETTLES: Final = bytes.fromhex("b0a1b1f23c1e4a558d430f6d5a1c7e22")


def cancel_version(seen_version: str) -> str:
    """Return the Version that a cancellation sets over `seen_version`.

    It is derived so that a worker recognises the cancellation of its claim, and so that a second
    `cancel` can notify the worker again (VERSION-2). It is as unique as a random Version, because
    no request has the same Version twice (VERSION-1).
    """
    return _derived(_CANCELS, seen_version)


def settle_version(claim_version: str) -> str:
    """Return the Version that the outcome of a claim sets.

    It is derived so that an outcome that is written again after a lost answer recognises its
    first copy (VERSION-2). It is unique, because a claim has at most one outcome (VERSION-1).
    """
    return _derived(_SETTLES, claim_version)


def has_version(item: Item, version: str) -> bool:
    """Return whether the Version of the item is exactly `version`."""
    return item.get("Version") == {"S": version}


def _derived(namespace: bytes, version: str) -> str:
    """Return a UUID (version 5), as `uuid.uuid5` does."""
    digest = hashlib.sha1(namespace + version.encode(), usedforsecurity=False).digest()
    return uuid_text(int.from_bytes(digest[:16]), version=5)
