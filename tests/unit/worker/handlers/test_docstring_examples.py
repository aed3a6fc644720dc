"""The examples in the docstrings of what authors of handlers import."""

from __future__ import annotations

import doctest
import inspect
from typing import Any

import pytest

from streamer_worker import Context, handler
from streamer_worker.handlers import context, definition
from streamer_worker.testing import memory_worker, run_handler, runs, workers

_EXAMPLES = [
    example
    for module in (context, definition, runs, workers)
    for example in doctest.DocTestFinder(exclude_empty=True).find(module)
    if example.examples
]


@pytest.mark.parametrize("example", _EXAMPLES, ids=lambda example: example.name)
def test_an_example_prints_what_it_shows(example: doctest.DocTest) -> None:
    """Each docstring example runs, and its output is the one in the docstring."""
    report: list[str] = []
    result = doctest.DocTestRunner().run(example, out=report.append)
    assert result.failed == 0, "".join(report)


@pytest.mark.parametrize(
    "documented",
    [Context.progress, Context.checkpoint, Context.track, handler, run_handler, memory_worker],
    ids=lambda documented: documented.__qualname__,
)
def test_the_first_things_that_an_author_uses_have_an_example(documented: Any) -> None:
    """These docstrings have an example, which the test above runs."""
    names = {example.name for example in _EXAMPLES}
    documented = inspect.unwrap(documented)
    assert f"{documented.__module__}.{documented.__qualname__}" in names
