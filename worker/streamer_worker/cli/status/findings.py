"""What is wrong in a snapshot, in words, and what to do (pure)."""

from __future__ import annotations

from collections.abc import Iterator

from streamer_worker.cli.formatting import counted
from streamer_worker.cli.status.finding import LISTED, Finding
from streamer_worker.cli.status.fleet_findings import fleet_findings
from streamer_worker.cli.status.pause_findings import pause_findings
from streamer_worker.cli.status.queue_findings import queue_findings
from streamer_worker.cli.status.snapshot import Snapshot


def findings_of(snapshot: Snapshot, *, max_age: float) -> list[Finding]:
    """Return what is wrong, the problems first.

    `max_age`: for how many seconds a request may wait although it may run.
    """
    found = [
        *_tables(snapshot),
        *_unreadable(snapshot),
        *fleet_findings(snapshot),
        *pause_findings(snapshot),
        *queue_findings(snapshot, max_age=max_age),
        *_undecodable(snapshot),
    ]
    return sorted(found, key=lambda finding: finding.level != "problem")


def _tables(snapshot: Snapshot) -> Iterator[Finding]:
    differences = snapshot.differences or ()
    blocking = [each for each in differences if each.blocking]
    missing = [each.table for each in blocking if each.creatable]
    if missing:
        noun = "table is missing" if len(missing) == 1 else "tables are missing"
        yield _missing(f"{noun}: {', '.join(missing)}")
    elif not blocking and any(each.missing for each in snapshot.unreadable):
        # The descriptions are denied, or older than the deletion of a table.
        yield _missing(f"tables {snapshot.target.tables} are missing, or lack an index")
    for difference in [each for each in blocking if not each.creatable][:LISTED]:
        yield Finding(level="problem", code="table_mismatch", text=str(difference))
    others = [each for each in differences if not each.blocking]
    for difference in others[:1]:
        rest = f", and {counted(len(others) - 1, 'more difference')}" if len(others) > 1 else ""
        yield Finding(
            level="notice",
            code="table_difference",
            text=f"{difference}{rest}",
            todo="`streamer-worker tables check` lists all differences",
        )


def _missing(text: str) -> Finding:
    return Finding(
        level="problem",
        code="tables_missing",
        text=text,
        todo="run `streamer-worker tables create`, or correct the names and the region",
    )


def _unreadable(snapshot: Snapshot) -> Iterator[Finding]:
    denied = [each for each in snapshot.unreadable if not each.missing]
    for essential in (True, False):
        parts = [each for each in denied if each.essential is essential]
        if not parts:
            continue
        names = ", ".join(each.what for each in parts)
        yield Finding(
            level="problem" if essential else "notice",
            code="unreadable",
            text=f"cannot read {names}: {parts[0].reason}",
            todo="allow it: the health cannot be judged without it" if essential else "",
        )


def _undecodable(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.undecodable:
        yield Finding(
            level="notice",
            code="undecodable",
            text=f"{counted(len(snapshot.undecodable), 'item')} cannot be decoded, for example"
            f" {snapshot.undecodable[0]}",
            todo="find the program that wrote it",
        )
