"""The examples in the docstrings of `open_stores` and `open_stores_sync`."""

from __future__ import annotations

import doctest
from typing import Any

import pytest

from streamer_store import open_stores, open_stores_sync


@pytest.mark.parametrize("opener", [open_stores, open_stores_sync])
def test_the_examples_run(opener: Any, moto_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They run as they are printed, with an endpoint from the environment."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", moto_url)
    parser = doctest.DocTestParser()
    example = parser.get_doctest(opener.__doc__ or "", {}, opener.__name__, None, None)
    assert example.examples
    output: list[str] = []
    results = doctest.DocTestRunner().run(example, out=output.append)
    assert results.failed == 0, "".join(output)
