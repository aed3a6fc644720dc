"""The example in the docstring of `open_stores`."""

from __future__ import annotations

import doctest

import pytest

from streamer_store import open_stores


def test_the_example_of_open_stores_runs(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs as it is printed, with an endpoint from the environment."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", moto_url)
    parser = doctest.DocTestParser()
    example = parser.get_doctest(open_stores.__doc__ or "", {}, "open_stores", None, None)
    assert example.examples
    output: list[str] = []
    results = doctest.DocTestRunner().run(example, out=output.append)
    assert results.failed == 0, "".join(output)
