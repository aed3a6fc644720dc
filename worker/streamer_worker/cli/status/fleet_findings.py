"""What is wrong with the workers (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from streamer_worker.cli.formatting import counted, in_one_unit
from streamer_worker.cli.status.finding import LISTED, Finding, short_name, waiting_text
from streamer_worker.cli.status.snapshot import Snapshot, Worker

# Clocks that differ by more seconds are reported.
_CLOCK_LIMIT: Final = 60.0


def fleet_findings(snapshot: Snapshot) -> Iterator[Finding]:
    """Yield what is wrong with the workers, and with the requests of those that are gone."""
    yield from _fleet(snapshot)
    yield from _lost(snapshot)
    yield from _orphans(snapshot)
    yield from _clocks(snapshot)


def _fleet(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.workers is None:
        return
    live, silent = snapshot.live, snapshot.silent
    if not live and not snapshot.workers_more:
        waiting = waiting_text(snapshot)
        yield Finding(
            level="problem",
            code="no_worker",
            text=f"no worker is alive, and {waiting}",
            todo="start one: `streamer-worker run`",
        )
    elif live and all(worker.drains for worker in live):
        yield Finding(
            level="problem",
            code="all_drain",
            text=f"all workers ({len(live)}) drain: none of them claims requests",
            todo="start another worker",
        )
    yield from _silent(silent, snapshot, rescued=bool(live))
    releases = Counter(worker.row.release for worker in live if worker.row.release)
    if len(releases) > 1:
        parts = (f"{release} ({count})" for release, count in releases.most_common(LISTED))
        yield Finding(
            level="notice",
            code="releases",
            text=f"the workers have {len(releases)} releases: {', '.join(parts)}",
            todo="finish the upgrade",
        )
    if snapshot.workers_more:
        yield Finding(
            level="notice",
            code="many_workers",
            text=f"only the first {len(snapshot.workers)} rows of workers were read",
        )


def _lost(snapshot: Snapshot) -> Iterator[Finding]:
    """Yield what is left of workers whose rows were removed: attempts of their requests."""
    lost = snapshot.lost_workers()
    if lost:
        last = max(lost, key=lambda worker_id: lost[worker_id])
        count = counted(len(lost), "worker")
        yield Finding(
            level="notice",
            code="workers_lost",
            text=f"{count} died or lost contact in the last hour, the last one"
            f" {in_one_unit((snapshot.now - lost[last]).total_seconds())} ago: {short_name(last)}",
            todo="look at its host and its log",
        )


def _silent(silent: list[Worker], snapshot: Snapshot, *, rescued: bool) -> Iterator[Finding]:
    for worker in silent[:LISTED]:
        row = worker.row
        place = f" on {row.host}, pid {row.pid}" if row.host else ""
        last = "unknown" if worker.silence is None else f"{in_one_unit(worker.silence)} ago"
        holds = f", with {counted(row.in_flight, 'request')}" if row.in_flight else ""
        todo = "look at its host and its log"
        if rescued:
            todo += f"; its requests run again soon after {snapshot.lease:g} s of silence"
        yield Finding(
            level="problem",
            code="worker_silent",
            text=f"worker {row.worker_id}{place} stopped: last heartbeat {last}{holds}",
            todo=todo,
        )
    if len(silent) > LISTED:
        yield Finding(
            level="problem",
            code="worker_silent",
            text=f"{counted(len(silent) - LISTED, 'more worker')} stopped beating",
            todo="`streamer-worker workers` lists them",
        )


def _orphans(snapshot: Snapshot) -> Iterator[Finding]:
    if not snapshot.orphans:
        return
    count = len(snapshot.orphans)
    number = f"more than {count} requests" if snapshot.orphans_more else counted(count, "request")
    verb = "is" if number.startswith("1 ") else "are"
    todo = f"the live workers run them again soon after {snapshot.lease:g} s"
    yield Finding(
        level="problem",
        code="orphans",
        text=f"{number} {verb} PROCESSING by workers that are not alive,"
        f" for example {snapshot.orphans[0]}",
        todo=todo if snapshot.live else "start a worker: it runs them again",
    )


def _clocks(snapshot: Snapshot) -> Iterator[Finding]:
    offset = snapshot.clock_offset
    if offset is not None and abs(offset) > _CLOCK_LIMIT:
        yield Finding(
            level="notice",
            code="clock_here",
            text=f"this machine's clock is {_offset_text(offset)} DynamoDB's",
            todo="synchronise it (NTP); the ages here follow DynamoDB's clock",
        )
    wrong = [worker for worker in snapshot.live if _is_wrong(worker, snapshot.lease)]
    for worker in wrong[:LISTED]:
        yield Finding(
            level="problem",
            code="clock_worker",
            text=f"the clock of {worker.row.host or worker.row.worker_id} is"
            f" {_offset_text(worker.clock_offset or 0.0)} DynamoDB's",
            todo="synchronise it (NTP): the times of its retries and outcomes are wrong",
        )


def _is_wrong(worker: Worker, lease: float) -> bool:
    offset = worker.clock_offset
    return offset is not None and not -_CLOCK_LIMIT - lease <= offset <= _CLOCK_LIMIT


def _offset_text(offset: float) -> str:
    return f"{in_one_unit(abs(offset))} {'ahead of' if offset > 0 else 'behind'}"
