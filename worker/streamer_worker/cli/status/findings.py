"""What is wrong in a snapshot, in words, and what to do (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from streamer_store.transitions import WAITING
from streamer_worker.cli.formatting import counted
from streamer_worker.cli.status.snapshot import (
    RATE_WINDOW,
    RATIO_WINDOW,
    Depth,
    Snapshot,
    Worker,
    grouped,
    within,
)

# Clocks that differ by more seconds are reported.
_CLOCK_LIMIT: Final = 60.0
# As the alert StreamerFailureRate.
_FAILURE_RATIO: Final = 0.2
_MIN_FAILURES: Final = 5
# How many requests must wait after the same failure, and which part of those that were read.
_MIN_RETRYING: Final = 10
_RETRYING_RATIO: Final = 0.5
# Of which kind of finding at most so many are listed.
_LISTED: Final = 3
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


def findings_of(snapshot: Snapshot, *, max_age: float) -> list[Finding]:
    """Return what is wrong, the problems first.

    `max_age`: for how many seconds a request may wait although it may run.
    """
    found = [
        *_tables(snapshot),
        *_unreadable(snapshot),
        *_fleet(snapshot),
        *_unhandled(snapshot),
        *_queue(snapshot, max_age),
        *_failures(snapshot),
        *_retries(snapshot),
        *_orphans(snapshot),
        *_clocks(snapshot),
        *_undecodable(snapshot),
    ]
    return sorted(found, key=lambda finding: finding.level != "problem")


def is_healthy(findings: Iterable[Finding]) -> bool:
    """Return whether no finding is a problem."""
    return all(finding.level != "problem" for finding in findings)


def duration(seconds: float) -> str:
    """Return a time in one unit: `90s`, `5m`, `3h` or `2d`."""
    seconds = max(0.0, seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def _tables(snapshot: Snapshot) -> Iterator[Finding]:
    differences = snapshot.differences
    if differences is None:  # the descriptions were denied, but a missing table is seen anyway
        if any(each.reason == "no such table" for each in snapshot.unreadable):
            yield Finding(
                level="problem",
                code="tables_missing",
                text=f"tables {snapshot.target.prefix}… are missing",
                todo="run `streamer-worker tables create`, or correct the prefix and the region",
            )
        return
    blocking = [each for each in differences if each.blocking]
    missing = [each.table for each in blocking if each.creatable]
    if missing:
        noun = "table is missing" if len(missing) == 1 else "tables are missing"
        yield Finding(
            level="problem",
            code="tables_missing",
            text=f"{noun}: {', '.join(missing)}",
            todo="run `streamer-worker tables create`, or correct the prefix and the region",
        )
    for difference in [each for each in blocking if not each.creatable][:_LISTED]:
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


def _unreadable(snapshot: Snapshot) -> Iterator[Finding]:
    denied = [each for each in snapshot.unreadable if each.reason != "no such table"]
    for essential in (True, False):
        parts = [each for each in denied if each.essential is essential]
        if not parts:
            continue
        names = ", ".join(each.what for each in parts)
        yield Finding(
            level="problem" if essential else "notice",
            code="unreadable",
            text=f"cannot read {names}: {parts[0].reason}",
            todo="allow it, or judge the rest without it" if essential else "",
        )


def _fleet(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.workers is None:
        return
    live, silent = snapshot.live, snapshot.silent
    if not live:
        waiting = _waiting_text(snapshot)
        yield Finding(
            level="problem",
            code="no_worker",
            text=f"no worker is alive, and {waiting}",
            todo="start one: `streamer-worker run`",
        )
    elif all(worker.drains for worker in live):
        yield Finding(
            level="problem",
            code="all_drain",
            text=f"all workers ({len(live)}) drain: none of them claims requests",
            todo="start another worker",
        )
    yield from _silent(silent, snapshot, rescued=bool(live))
    releases = Counter(worker.row.release for worker in live if worker.row.release)
    if len(releases) > 1:
        parts = (f"{release} ({count})" for release, count in releases.most_common(_LISTED))
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


def _silent(silent: list[Worker], snapshot: Snapshot, *, rescued: bool) -> Iterator[Finding]:
    for worker in silent[:_LISTED]:
        row = worker.row
        place = f" on {row.host}, pid {row.pid}" if row.host else ""
        last = "unknown" if worker.silence is None else f"{duration(worker.silence)} ago"
        holds = f", with {counted(row.in_flight, 'request')}" if row.in_flight else ""
        todo = "look at its host and its log"
        if rescued:
            todo += f"; the other workers take its requests after {snapshot.lease:g} s"
        yield Finding(
            level="problem",
            code="worker_silent",
            text=f"worker {row.worker_id}{place} stopped: last heartbeat {last}{holds}",
            todo=todo,
        )
    if len(silent) > _LISTED:
        yield Finding(
            level="problem",
            code="worker_silent",
            text=f"{counted(len(silent) - _LISTED, 'more worker')} stopped beating",
            todo="`streamer-worker workers` lists them",
        )


def _unhandled(snapshot: Snapshot) -> Iterator[Finding]:
    if not snapshot.live or snapshot.workers_more:
        return
    handled = frozenset[str]().union(*(worker.row.actions for worker in snapshot.live))
    unhandled = [
        (name, found)
        for name, found in snapshot.waiting_actions().items()
        if name and name not in handled
    ]
    unhandled.sort(key=lambda each: -each[1].count)
    for name, found in unhandled[:_LISTED]:
        yield Finding(
            level="problem",
            code="unhandled_action",
            text=f"no live worker handles action {_name(name)}: {_wait_text(found.count)}"
            f"{_since(found.oldest, snapshot.now)}",
            todo="start a worker that has a handler for it; without one these requests fail"
            f" after {duration(snapshot.unknown_action_timeout)}",
        )
    if len(unhandled) > _LISTED:
        names = ", ".join(_name(name) for name, _ in unhandled[_LISTED : 2 * _LISTED])
        yield Finding(
            level="problem",
            code="unhandled_action",
            text=f"no live worker handles {len(unhandled) - _LISTED} more actions: {names}",
        )


def _queue(snapshot: Snapshot, max_age: float) -> Iterator[Finding]:
    slots = sum(worker.row.concurrency for worker in snapshot.live if not worker.drains)
    used = sum(worker.row.in_flight for worker in snapshot.live if not worker.drains)
    busy = bool(slots) and used >= slots
    ages = {
        status: (snapshot.now - since).total_seconds()
        for status in WAITING
        if (since := snapshot.depths.get(status, Depth()).oldest) is not None
    }
    oldest = max(ages, key=lambda status: ages[status], default=None)
    if oldest is not None and ages[oldest] > max_age:
        yield Finding(
            level="problem",
            code="queue_old",
            text=f"the oldest {oldest} request waits for {duration(ages[oldest])}",
            todo=_advice_for_old(snapshot, busy=busy),
        )
    elif busy and _grows(snapshot):
        yield Finding(
            level="notice",
            code="busy",
            text=f"all {slots} slots are busy, and the queue grows: {_waiting_text(snapshot)}",
            todo="start more workers, or raise `concurrency`",
        )


def _advice_for_old(snapshot: Snapshot, *, busy: bool) -> str:
    if snapshot.workers is None:
        return "`streamer-worker workers` shows whether workers live and have free slots"
    if not snapshot.live:
        return "start a worker"
    if busy:
        return "all slots are busy: start more workers, or raise `concurrency`"
    return (
        "slots are free: look for a limit (`max_concurrency`, `tenant_concurrency`), for actions"
        " that no worker handles, and for errors in the workers' logs"
    )


def _grows(snapshot: Snapshot) -> bool:
    """Return whether more requests arrived in the last minute, and still wait, than ended."""
    arrived = [snapshot.depths[status].arrived for status in WAITING if status in snapshot.depths]
    if not arrived or snapshot.completed is None or snapshot.failed is None:
        return False
    if None in arrived:  # More wait than are counted.
        return True
    ended = sum(
        sample.per_minute(snapshot.now, RATE_WINDOW)
        for sample in (snapshot.completed, snapshot.failed)
    )
    return sum(count or 0 for count in arrived) > ended


def _failures(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.failed is None or snapshot.completed is None:
        return
    now = snapshot.now
    window = min(
        sample.reach(now, RATIO_WINDOW) for sample in (snapshot.failed, snapshot.completed)
    )
    failed = within(snapshot.failed, now, window)
    completed = Counter(each.action for each in within(snapshot.completed, now, window))
    by_action = Counter(each.action for each in failed)
    high = [
        (action, count)
        for action, count in by_action.most_common()
        if count >= _MIN_FAILURES and count > _FAILURE_RATIO * (count + completed[action])
    ]
    for action, count in high[:_LISTED]:
        latest = grouped(each for each in failed if each.action == action)[0]
        ratio = count / (count + completed[action])
        code = f", mostly {_name(latest.code)}" if latest.code else ""
        yield Finding(
            level="problem",
            code="failures_high",
            text=f"{ratio:.0%} of action {_name(action)} failed in the last {duration(window)}"
            f" ({counted(count, 'request')}{code})",
            todo=f"`streamer-worker show {latest.example}`, then `redrive` them once it is fixed",
        )


def _retries(snapshot: Snapshot) -> Iterator[Finding]:
    sample = snapshot.retrying
    if sample is None:
        return
    for each in grouped(sample.requests)[:1]:
        enough = each.count >= _MIN_RETRYING
        if each.code and enough and each.count >= _RETRYING_RATIO * len(sample.requests):
            yield Finding(
                level="problem",
                code="retrying",
                text=f"{each.count} of the newest {len(sample.requests)} RETRYING requests are"
                f" of action {_name(each.action)}, after {_name(each.code)}",
                todo=f"`streamer-worker show {each.example}` has the error",
            )


def _orphans(snapshot: Snapshot) -> Iterator[Finding]:
    if not snapshot.orphans:
        return
    count = len(snapshot.orphans)
    number = f"more than {count} requests" if snapshot.orphans_more else counted(count, "request")
    verb = "is" if number.startswith("1 ") else "are"
    todo = f"the live workers run them again after {snapshot.lease:g} s"
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
    for worker in wrong[:_LISTED]:
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
    return f"{duration(abs(offset))} {'ahead of' if offset > 0 else 'behind'}"


def _undecodable(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.undecodable:
        yield Finding(
            level="notice",
            code="undecodable",
            text=f"{counted(len(snapshot.undecodable), 'item')} cannot be decoded, for example"
            f" {snapshot.undecodable[0]}",
            todo="find the program that wrote it",
        )


def _waiting_text(snapshot: Snapshot) -> str:
    if snapshot.waiting_more:
        return f"more than {snapshot.waiting:,} requests wait"
    return _wait_text(snapshot.waiting)


def _wait_text(count: int) -> str:
    return f"{counted(count, 'request')} {'waits' if count == 1 else 'wait'}"


def _since(oldest: datetime | None, now: datetime) -> str:
    if oldest is None:
        return ""
    return f", the oldest for {duration((now - oldest).total_seconds())}"


def _name(text: str) -> str:
    """Return a name from outside, cut."""
    return text if len(text) <= _NAME_CHARS else text[: _NAME_CHARS - 1] + "…"
