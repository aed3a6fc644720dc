"""Which workers count as alive."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from streamer_worker.cli.status.liveness import Liveness, is_doubtful
from unit.worker.cli.status.snapshots import NOW, ago, worker

ROW = worker().row


@pytest.mark.parametrize(
    ("seconds_ago", "alive", "doubtful"),
    [
        (0.0, True, False),
        (15.9, True, False),
        (16.0, False, True),
        (-15.9, True, False),
        (-120.0, False, True),  # its clock is ahead
        (899.0, False, True),
        (900.0, False, False),  # no clock is so wrong
        (None, False, True),
    ],
)
def test_one_read_goes_by_the_last_heartbeat(
    seconds_ago: float | None, *, alive: bool, doubtful: bool
) -> None:
    """A worker that seems dead, though a wrong clock could explain it, is worth another read."""
    row = replace(ROW, seen_at=None if seconds_ago is None else ago(seconds_ago))
    (judged,) = Liveness(lease=16.0).observe([row], now=NOW, steady=0.0)
    assert (judged.beating, is_doubtful(judged)) == (alive, doubtful)
    assert judged.silence == seconds_ago


def test_a_changed_beat_shows_that_the_worker_lives() -> None:
    """Whatever its clock says. Its offset is then known."""
    liveness = Liveness(lease=16.0)
    row = replace(ROW, seen_at=ago(500.0))
    liveness.observe([row], now=NOW, steady=0.0)
    (judged,) = liveness.observe([replace(row, beat=1)], now=NOW, steady=6.0)
    assert judged.beating
    assert judged.clock_offset == -500.0


def test_a_watched_worker_is_dead_a_lease_after_its_last_beat() -> None:
    """By our own clock, though SeenAt is in the future."""
    liveness = Liveness(lease=16.0)
    row = replace(ROW, seen_at=NOW + timedelta(seconds=10))
    for steady, alive in ((0.0, True), (10.0, True), (16.0, False), (30.0, False)):
        (judged,) = liveness.observe([row], now=NOW, steady=steady)
        assert judged.beating is alive
        assert (judged.clock_offset is not None) is alive
    (judged,) = liveness.observe([replace(row, beat=1)], now=NOW, steady=40.0)
    assert judged.beating


def test_rows_that_are_gone_are_forgotten() -> None:
    """What is remembered is bounded by the fleet."""
    liveness = Liveness(lease=16.0)
    liveness.observe([replace(ROW, worker_id=str(n)) for n in range(100)], now=NOW, steady=0.0)
    assert liveness.observe([], now=NOW, steady=1.0) == []
    assert not liveness._seen
