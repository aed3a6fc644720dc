"""A record of the requests with a unique key that were stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from streamer_store import RequestStatus, codec
from streamer_store.engine import Put
from streamer_store.values import Item


@dataclass(kw_only=True)
class KeyJournal:
    """The puts of requests with a key that took effect. It does not rely on their conditions."""

    now: Callable[[], datetime]
    stored: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def note_put(self, put: Put, old: Item | None) -> None:
        """Check a put that took effect over `old`."""
        run = codec.raw_text(put.item, "UniqueRun")
        if not run:
            return
        self.stored[run] += 1
        if self.stored[run] > 1:
            self.violations.append(f"{put.key}: an enqueue took effect twice")
        match codec.raw_text(old or {}, "Status"):
            case RequestStatus.PROCESSING:
                self.violations.append(f"{put.key} was stored over one that runs")
            case RequestStatus.COMPLETED:
                # Without a window the key is free at once, also if the worker's clock is fast.
                ended = codec.request(old or {})
                if ended.unique_for is None:
                    return
                ends = ended.processing_ended
                if ends is None or self.now() < ends + ended.unique_for:
                    self.violations.append(f"{put.key} was stored in the window of another")
