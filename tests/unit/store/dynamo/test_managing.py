"""Calls that manage several tables at once."""

from __future__ import annotations

import pytest

from streamer_store.dynamo.managing import poll_pause


@pytest.mark.parametrize(
    ("waited", "pause"), [(0, 0.5), (4, 0.5), (20, 2), (99, 9.9), (1000, 10), (1e6, 10)]
)
def test_polls_become_rare(waited: float, pause: float) -> None:
    """A tenth of the time waited so far, from the shortest pause to ten seconds."""
    assert poll_pause(waited, shortest=0.5) == pytest.approx(pause)
