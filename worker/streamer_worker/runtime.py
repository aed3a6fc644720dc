"""What all services of a worker are given: time, randomness, and a place for their events."""

from __future__ import annotations

import random
from dataclasses import dataclass

from streamer_store import Clock
from streamer_worker.events import Events


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Passed unchanged to every service that needs at least two of its fields."""

    # Wall-clock and steady time. Tests pass one that they advance.
    clock: Clock
    # For jitter, random pauses and ids. Tests pass a seeded one.
    rng: random.Random
    # Receives what happens. Metrics, logs and health listen to it.
    events: Events
