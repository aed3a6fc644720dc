"""The Versions that writes derive from other Versions, and how a write finds its own (pure)."""

from __future__ import annotations

import uuid
from typing import Final

from streamer_store.values import Item

_CANCELS: Final = uuid.UUID("6f1ff2c4-5d0b-4b57-9c8e-6a3e5a6f0d11")
_SETTLES: Final = uuid.UUID("b0a1b1f2-3c1e-4a55-8d43-0f6d5a1c7e22")
_IMPORTS: Final = uuid.UUID("4c9d2b58-7f0e-4f3a-9a51-d2a7c0e83b64")


def cancel_version(seen_version: str) -> str:
    """Return the Version that a cancellation sets over `seen_version`.

    It is derived so that a worker recognises the cancellation of its claim, and so that a second
    `cancel` can notify the worker again (VERSION-2). It is as unique as a random Version, because
    no request has the same Version twice (VERSION-1).
    """
    return str(uuid.uuid5(_CANCELS, seen_version))


def settle_version(claim_version: str) -> str:
    """Return the Version that the outcome of a claim sets.

    It is derived so that an outcome that is written again after a lost answer recognises its
    first copy (VERSION-2). It is unique, because a claim has at most one outcome (VERSION-1).
    """
    return str(uuid.uuid5(_SETTLES, claim_version))


def import_version(export_id: str, request_id: str, exported_version: str) -> str:
    """Return the Version that an import sets for a request that was PROCESSING in the export.

    It is derived so that an import that is run again recognises what it wrote before (VERSION-2).
    """
    return str(uuid.uuid5(_IMPORTS, f"{export_id}/{request_id}/{exported_version}"))


def has_version(item: Item, version: str) -> bool:
    """Return whether the Version of the item is exactly `version`."""
    return item.get("Version") == {"S": version}
