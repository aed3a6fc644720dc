"""The examples in the store's docstrings run."""

from __future__ import annotations

import doctest

from streamer_store import stores


def test_the_example_of_memory_stores_runs() -> None:
    """It prints what its docstring says."""
    results = doctest.testmod(stores)
    assert results.attempted > 0
    assert results.failed == 0
