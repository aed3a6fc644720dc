"""Fixtures of the tests that measure costs."""

import gc
from collections.abc import Iterator

import pytest

from integration.conftest import plugins, real, server

__all__ = ["plugins", "real", "server"]


@pytest.fixture(autouse=True)
def frozen_heap() -> Iterator[None]:
    """Take what pytest has loaded out of garbage collection, as `run` does at its start.

    Otherwise each full collection takes 0.15 to 0.2 s, and all threads of the process wait for it.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
