"""The examples in the store's docstrings run."""

from __future__ import annotations

import doctest

from streamer_store import memory_stores_sync, stores


def test_the_example_of_synchronous_stores_in_memory_runs() -> None:
    """As it is printed in the API reference."""
    text = memory_stores_sync.__doc__ or ""
    example = doctest.DocTestParser().get_doctest(text, {}, "memory_stores_sync", None, None)
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0


def test_the_example_of_memory_stores_runs() -> None:
    """It prints what its docstring says."""
    results = doctest.testmod(stores)
    assert results.attempted > 0
    assert results.failed == 0
