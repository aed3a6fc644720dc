"""What is wrong with the requests (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from datetime import datetime
from difflib import get_close_matches
from typing import Final

from streamer_store.transitions import WAITING, RequestStatus
from streamer_worker.cli.formatting import counted, in_one_unit
from streamer_worker.cli.status.finding import (
    LISTED,
    Finding,
    short_name,
    wait_text,
    waiting_text,
)
from streamer_worker.cli.status.snapshot import (
    RATE_WINDOW,
    RATIO_WINDOW,
    ActionCount,
    Depth,
    Snapshot,
    earliest,
    grouped,
    within,
)

# As the alert StreamerFailureRate.
_FAILURE_RATIO: Final = 0.2
_MIN_FAILURES: Final = 5
# How many requests must wait after the same failure, and which part of those that were read.
_MIN_RETRYING: Final = 10
_RETRYING_RATIO: Final = 0.5


def queue_findings(snapshot: Snapshot, *, max_age: float) -> Iterator[Finding]:
    """Yield what is wrong with the requests that wait, and with those that ended."""
    unhandled = _unhandled_actions(snapshot)
    yield from _unhandled(snapshot, unhandled)
    yield from _queue(snapshot, max_age, unhandled)
    yield from _failures(snapshot)
    yield from _retries(snapshot)


def _unhandled(snapshot: Snapshot, actions: Mapping[str, ActionCount]) -> Iterator[Finding]:
    unhandled = sorted(actions.items(), key=lambda each: -each[1].count)
    handled = snapshot.handled_actions
    for name, found in unhandled[:LISTED]:
        yield Finding(
            level="problem",
            code="unhandled_action",
            text=f"no live worker handles action {short_name(name)}: {wait_text(found.count)}"
            f"{_since(found.oldest, snapshot.now)}",
            todo=f"start a worker that has a handler for it{_did_you_mean(name, handled)};"
            f" without one these requests fail after"
            f" {in_one_unit(snapshot.unknown_action_timeout)}",
        )
    if len(unhandled) > LISTED:
        names = ", ".join(short_name(name) for name, _ in unhandled[LISTED : 2 * LISTED])
        yield Finding(
            level="problem",
            code="unhandled_action",
            text=f"no live worker handles {len(unhandled) - LISTED} more actions: {names}",
        )


def _did_you_mean(name: str, handled: Iterable[str]) -> str:
    close = get_close_matches(name, sorted(handled), n=1)
    return f" (or did you mean {short_name(close[0])!r}?)" if close else ""


def _since(oldest: datetime | None, now: datetime) -> str:
    if oldest is None:
        return ""
    return f", the oldest for {in_one_unit((now - oldest).total_seconds())}"


def _unhandled_actions(snapshot: Snapshot) -> dict[str, ActionCount]:
    """Return the actions that wait, are not paused, and that no live worker handles.

    Without a live worker, or if not all of them were read, none is known to be unhandled.
    """
    if not snapshot.live or snapshot.workers_more:
        return {}
    handled = snapshot.handled_actions
    return {
        name: found
        for name, found in snapshot.waiting_actions().items()
        if name and name not in handled and not snapshot.is_paused(name)
    }


def _queue(snapshot: Snapshot, max_age: float, unhandled: Container[str]) -> Iterator[Finding]:
    slots = sum(worker.row.concurrency for worker in snapshot.live if not worker.drains)
    used = sum(worker.row.in_flight for worker in snapshot.live if not worker.drains)
    busy = bool(slots) and used >= slots
    ages = {
        status: (snapshot.now - since).total_seconds()
        for status in WAITING
        if (since := _oldest(snapshot, status, unhandled)) is not None
    }
    oldest = max(ages, key=lambda status: ages[status], default=None)
    if oldest is not None and ages[oldest] > max_age:
        yield Finding(
            level="problem",
            code="queue_old",
            text=f"the oldest {oldest} request waits for {in_one_unit(ages[oldest])}",
            todo=_advice_for_old(snapshot, busy=busy),
        )
    elif busy and _grows(snapshot):
        yield Finding(
            level="notice",
            code="busy",
            text=f"all {slots} slots are busy, and the queue grows: {waiting_text(snapshot)}",
            todo="start more workers, or raise `concurrency`",
        )


def _oldest(
    snapshot: Snapshot, status: RequestStatus, unhandled: Container[str]
) -> datetime | None:
    """Return since when the oldest request waits, without unhandled and paused actions."""
    actions = snapshot.depths.get(status, Depth()).actions
    return earliest(
        *(
            found.oldest
            for name, found in actions.items()
            if name not in unhandled and not snapshot.is_paused(name)
        )
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
    for action, count in high[:LISTED]:
        latest = grouped(each for each in failed if each.action == action)[0]
        ratio = count / (count + completed[action])
        code = f", mostly {short_name(latest.code)}" if latest.code else ""
        yield Finding(
            level="problem",
            code="failures_high",
            text=f"{ratio:.0%} of action {short_name(action)} failed in the last"
            f" {in_one_unit(window)} ({counted(count, 'request')}{code})",
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
                f" of action {short_name(each.action)}, after {short_name(each.code)}",
                todo=f"`streamer-worker show {each.example}` has the error",
            )
