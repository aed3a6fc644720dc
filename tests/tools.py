"""Programs that some tests need, and may be absent where nobody insists on them."""

from __future__ import annotations

import os
import shutil

import pytest


def tool(name: str, package: str) -> str:
    """Return the path of a program. Where it is absent the test is skipped, unless
    STREAMER_TEST_REQUIRE_ALL is set.
    """
    found = shutil.which(name)
    if found is None:
        missing(f"{name} is not installed (Debian's package {package})")
    assert found is not None
    return found


def missing(what: str) -> None:
    if os.environ.get("STREAMER_TEST_REQUIRE_ALL"):
        pytest.fail(what)
    pytest.skip(what)
