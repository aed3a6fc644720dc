"""Parses each file of botocore's models once for a process, and not again for each client.

A client reads 2 MB of JSON, which takes more CPU than most tests. It does not change what it has
read: the clients of one session share it too.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

from botocore.loaders import JSONFileLoader


@cache
def parse_once() -> None:
    """Let all clients of this process share what the first one has parsed."""
    parse = cache(partial(JSONFileLoader.load_file, JSONFileLoader()))

    def load(_self: JSONFileLoader, path: str) -> Any:
        return parse(path)

    JSONFileLoader.load_file = load  # type: ignore[method-assign, assignment]
