"""The examples of docs/scheduling.md about pauses run."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from processes import ROOT
from streamer_worker import Fuse
from streamer_worker.execution.outcome import Retry
from streamer_worker.testing import run_handler

PAGE = (ROOT / "docs" / "scheduling.md").read_text()


def _names(example: str) -> dict[str, Any]:
    """Run the example, and return its names."""
    (text,) = re.findall(rf"<!-- {example} example -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(text, names)  # noqa: S102  the page is ours
    return names


@pytest.mark.anyio
async def test_the_hold_example_holds_its_action() -> None:
    """For as long as the API asked."""
    run = await run_handler(_names("hold")["send_reminder"], {})
    assert isinstance(run.outcome, Retry)
    assert run.outcome.hold == timedelta(minutes=1)


def test_the_fuse_example_has_two_fuses() -> None:
    """One with a window of its own, one with ten minutes."""
    names = _names("fuse")
    assert names["bill"].fuse == Fuse(failures=50, within=timedelta(minutes=5))
    assert names["archive"].fuse == Fuse(failures=20, within=timedelta(minutes=10))
