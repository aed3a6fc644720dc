"""A finding, and words that findings share (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from streamer_worker.cli.formatting import counted
from streamer_worker.cli.status.snapshot import Snapshot

LISTED: Final = 3
"""At most so many findings of a kind name one worker or action each."""
_NAME_CHARS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that an operator should know.

    - `level`: a `problem` makes the exit code 1, a `notice` does not.
    - `code`: which kind it is. It never changes, so that a program can rely on it.
    - `todo`: what to do. Empty: nothing.
    """

    level: Literal["problem", "notice"]
    code: str
    text: str
    todo: str = ""


def is_healthy(findings: Iterable[Finding]) -> bool:
    """Return whether no finding is a problem."""
    return all(finding.level != "problem" for finding in findings)


def waiting_text(snapshot: Snapshot) -> str:
    """Return how many requests may run and wait, with the verb."""
    if snapshot.waiting_more:
        return f"more than {snapshot.waiting:,} requests wait"
    return wait_text(snapshot.waiting)


def wait_text(count: int) -> str:
    """Return the count of requests, with the verb."""
    return f"{counted(count, 'request')} {'waits' if count == 1 else 'wait'}"


def short_name(text: str) -> str:
    """Return a name from outside, cut."""
    return text if len(text) <= _NAME_CHARS else text[: _NAME_CHARS - 1] + "…"
