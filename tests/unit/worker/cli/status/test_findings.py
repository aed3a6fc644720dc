"""What `status` says is wrong: case by case, from snapshots."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from streamer_store import Difference, RequestStatus
from streamer_worker.cli.status.finding import Finding, is_healthy
from streamer_worker.cli.status.findings import findings_of
from streamer_worker.cli.status.snapshot import Sample, Snapshot, Unreadable
from unit.worker.cli.status.snapshots import ago, depth, ended, snapshot, worker

PENDING = RequestStatus.PENDING


def found(given: Snapshot, max_age: float = 300.0) -> list[Finding]:
    return findings_of(given, max_age=max_age)


def only(given: Snapshot, max_age: float = 300.0) -> Finding:
    (finding,) = found(given, max_age)
    return finding


def codes(given: Snapshot) -> list[tuple[str, str]]:
    return [(finding.level, finding.code) for finding in found(given)]


def test_nothing_is_wrong_with_a_fleet_that_keeps_up() -> None:
    """Requests wait for seconds, some fail, and one worker drains."""
    given = snapshot(
        worker(),
        worker("w2", draining=True),
        depths={PENDING: depth(3), RequestStatus.PROCESSING: depth(1)},
        completed=ended(*range(20)),
        failed=ended(1, 2, 3, 4, code="BROKEN"),
    )
    assert found(given) == []
    assert is_healthy([])


def test_no_worker_is_alive() -> None:
    """That is a problem even if nothing waits. The text has the number of waiting requests."""
    empty = only(snapshot(workers=()))
    assert (empty.level, empty.code) == ("problem", "no_worker")
    assert "0 requests wait" in empty.text
    assert "streamer-worker run" in empty.todo
    assert not is_healthy([empty])
    one = only(snapshot(workers=(), depths={PENDING: depth(1)}))
    assert "1 request waits" in one.text
    many = only(snapshot(workers=(), depths={PENDING: depth(1000, more=True)}))
    assert "more than 1,000 requests wait" in many.text


def test_a_worker_that_stopped_beating_is_named() -> None:
    """The host, the process, the time since its last heartbeat, and what it holds."""
    dead = worker("w2", beating=False, silence=95.0, in_flight=3)
    finding = only(snapshot(worker(), dead))
    assert finding.code == "worker_silent"
    for part in ("w2", "host-a", "pid 7", "95s ago", "3 requests"):
        assert part in finding.text
    assert "16 s" in finding.todo
    unknown = worker("w2", beating=False, silence=None, in_flight=0, host="")
    assert only(snapshot(worker(), unknown)).text == "worker w2 stopped: last heartbeat unknown"


def test_of_many_silent_workers_three_are_named() -> None:
    """The others are counted."""
    dead = [worker(f"d{number}", beating=False) for number in range(1000)]
    texts = [finding.text for finding in found(snapshot(worker(), *dead))]
    assert len(texts) == 4
    assert texts[-1].startswith("997 more workers")


def test_workers_that_were_lost_are_remembered_for_an_hour() -> None:
    """Their rows are removed. The attempts of their requests name them."""
    given = snapshot(
        completed=ended(5, w7=3000, w8=600),
        failed=ended(5, w7=500, w9=3700),
        retrying=ended(5, w8=700),
    )
    finding = only(given)
    assert (finding.code, finding.level) == ("workers_lost", "notice")
    assert (
        finding.text == "2 workers died or lost contact in the last hour, the last one 8m ago: w7"
    )
    assert found(snapshot(completed=None, failed=None, retrying=None)) == []


def test_a_fleet_that_drains_claims_nothing() -> None:
    """Whether the workers drain already, or were only asked to."""
    given = snapshot(worker(draining=True), worker("w2", drain=True))
    assert codes(given) == [("problem", "all_drain")]


def test_an_action_that_no_live_worker_handles() -> None:
    """By action, with the number, the age of the oldest and the time after which they fail."""
    given = snapshot(
        worker(),
        worker("dead", beating=False, silence=1000.0, actions=frozenset({"mail"})),
        depths={PENDING: depth(12, action="mail", age=100)},
    )
    finding = next(each for each in found(given) if each.code == "unhandled_action")
    assert finding.level == "problem"
    assert "mail: 12 requests wait, the oldest for 100s" in finding.text
    assert "30m" in finding.todo
    assert "did you mean" not in finding.todo
    mistyped = only(snapshot(worker(), depths={PENDING: depth(1, action="bil", age=1)}))
    assert "(or did you mean 'bill'?)" in mistyped.todo


def test_retrying_requests_count_as_waiting_for_their_action() -> None:
    """The counts of all waiting statuses are added, with the oldest of all."""
    given = snapshot(
        depths={
            PENDING: depth(2, action="mail", age=10),
            RequestStatus.RETRYING: depth(3, action="mail", age=40),
        },
    )
    assert "mail: 5 requests wait, the oldest for 40s" in only(given).text


def test_of_many_unhandled_actions_three_have_a_finding_each() -> None:
    """The ones with the most requests. The others are counted, and some are named."""
    mails = {f"mail{number}": depth(number + 1).actions["bill"] for number in range(50)}
    given = snapshot(depths={PENDING: depth(1275, actions=mails)})
    texts = [finding.text for finding in found(given)]
    assert len(texts) == 4
    assert "mail49" in texts[0]
    assert "47 more actions" in texts[3]


def test_actions_are_not_judged_if_not_all_workers_were_read() -> None:
    """A worker that was not read may handle them."""
    given = snapshot(workers_more=True, depths={PENDING: depth(action="mail")})
    assert codes(given) == [("notice", "many_workers")]
    dead = worker(beating=False, silence=9000.0)
    assert "no_worker" not in [code for _, code in codes(snapshot(dead, workers_more=True))]


@pytest.mark.parametrize(
    ("fields", "advice"),
    [
        ({"in_flight": 4}, "more workers"),
        ({"in_flight": 0}, "slots are free"),
    ],
)
def test_a_request_that_waits_too_long(fields: dict[str, Any], advice: str) -> None:
    """The advice depends on whether slots are free."""
    finding = only(snapshot(worker(**fields), depths={PENDING: depth(age=301)}))
    assert (finding.level, finding.code) == ("problem", "queue_old")
    assert "PENDING request waits for 5m" in finding.text
    assert advice in finding.todo


def test_requests_that_nobody_handles_are_not_said_to_be_late() -> None:
    """They have a finding of their own. Without a live worker, all of them are late."""
    given = snapshot(depths={PENDING: depth(age=999, action="mail")})
    assert only(given).code == "unhandled_action"
    nobody = found(replace(given, workers=()))
    assert [finding.code for finding in nobody] == ["no_worker", "queue_old"]


def test_how_long_a_request_may_wait_is_an_argument() -> None:
    """A queue of batches may be hours old."""
    given = snapshot(depths={PENDING: depth(age=4000)})
    assert found(given, max_age=7200.0) == []
    assert only(given, max_age=60.0).code == "queue_old"


@pytest.mark.parametrize(
    ("arrived", "more", "grows"), [(30, False, True), (5, False, False), (None, True, True)]
)
def test_all_slots_are_busy_and_the_queue_grows(
    arrived: int | None, *, more: bool, grows: bool
) -> None:
    """More arrived in the last minute than ended. It is a notice: a burst does no harm."""
    given = snapshot(
        worker(in_flight=4),
        depths={PENDING: depth(50, age=30, arrived=arrived, more=more)},
        completed=ended(*range(0, 300, 10)),  # 6 a minute
        failed=ended(),
    )
    assert codes(given) == ([("notice", "busy")] if grows else [])
    assert is_healthy(found(given))
    free = replace(given, workers=[worker(in_flight=3)])
    assert found(free) == []


def test_failures_are_high() -> None:
    """Of an action, five or more and a fifth of what ended. The latest is named."""
    given = snapshot(failed=ended(1, 2, 3, 4, 5, code="BROKEN"), completed=ended(*range(10, 25)))
    finding = only(given)
    assert (finding.level, finding.code) == ("problem", "failures_high")
    assert "25% of action bill" in finding.text
    assert "BROKEN" in finding.text
    assert "show bill-1`" in finding.todo


def test_few_or_old_failures_are_no_problem() -> None:
    """Four of four, a fifth of what ended, and those of the last hour but not of 15 minutes."""
    assert found(snapshot(failed=ended(1, 2, 3, 4))) == []
    assert found(snapshot(failed=ended(1, 2, 3, 4, 5), completed=ended(*range(10, 30)))) == []
    assert found(snapshot(failed=ended(1001, 1002, 1003, 1004, 1005))) == []


def test_full_samples_are_compared_over_the_same_time() -> None:
    """100 completed in the last 10 s say nothing about failures that are older."""
    completed = ended(*(number / 10 for number in range(100)), full=True)
    assert found(snapshot(completed=completed, failed=ended(*range(20, 60)))) == []


def test_other_actions_do_not_hide_failures() -> None:
    """The ratio is that of one action."""
    given = snapshot(failed=ended(1, 2, 3, 4, 5), completed=ended(*range(90), action="mail"))
    assert "100% of action bill" in only(given).text


def test_many_retry_after_the_same_code() -> None:
    """Ten or more of an action with a code, and half of those that were read."""
    retrying = ended(*range(10), code="TIMEOUT")
    finding = only(snapshot(retrying=retrying))
    assert (finding.level, finding.code) == ("problem", "retrying")
    assert "10 of the newest 10" in finding.text
    assert "TIMEOUT" in finding.text
    assert found(snapshot(retrying=ended(*range(9), code="TIMEOUT"))) == []
    assert found(snapshot(retrying=ended(*range(50)))) == []  # snoozed, without an error
    other = ended(*range(11), action="mail", code="OTHER").requests
    mixed = Sample(requests=[*retrying.requests, *other])
    assert "mail" in only(snapshot(retrying=mixed)).text


def test_running_requests_of_workers_that_are_gone() -> None:
    """The live workers rescue them. Without one, nobody does."""
    given = snapshot(orphans=["r1", "r2"], orphans_more=True)
    finding = only(given)
    assert (finding.level, finding.code) == ("problem", "orphans")
    assert "more than 2 requests" in finding.text
    assert "16 s" in finding.todo
    nobody = found(replace(given, workers=(), orphans=["r1"], orphans_more=False))
    assert "1 request is PROCESSING" in nobody[-1].text
    assert "start a worker" in nobody[-1].todo


def test_missing_tables() -> None:
    """They are named, and `tables create` makes them."""
    missing = Difference("streamer_workers", "missing", blocking=True, creatable=True)
    other = Difference("streamer_requests", "key is X", blocking=True)
    notice = Difference("streamer_requests", "TTL is off", blocking=False)
    finding, mismatch, ttl = found(snapshot(differences=[missing, notice, other, notice]))
    assert (finding.code, mismatch.code) == ("tables_missing", "table_mismatch")
    assert finding.text == "table is missing: streamer_workers"
    assert "tables create" in finding.todo
    assert (ttl.level, ttl.code) == ("notice", "table_difference")
    assert ttl.text == "table streamer_requests: TTL is off, and 1 more difference"


def test_a_missing_table_is_seen_without_the_descriptions() -> None:
    """DescribeTable may be denied."""
    refused = Unreadable(what="descriptions", reason="denied", essential=False)
    missing = Unreadable(what="workers", reason="no table", essential=True, missing=True)
    given = snapshot(workers=None, differences=None, unreadable=[refused, missing])
    assert codes(given) == [("problem", "tables_missing"), ("notice", "unreadable")]
    deleted = snapshot(differences=[], unreadable=[missing])  # since they were described
    assert codes(deleted) == [("problem", "tables_missing")]


def test_what_cannot_be_read_is_one_line() -> None:
    """It is a problem if the health cannot be judged without it."""
    parts = [
        Unreadable(what="workers", reason="AccessDenied: no", essential=True),
        Unreadable(what="requests PENDING", reason="AccessDenied: no", essential=True),
        Unreadable(what="requests FAILED", reason="AccessDenied: no", essential=False),
    ]
    problem, notice = found(snapshot(workers=None, failed=None, unreadable=parts))
    assert problem.text == "cannot read workers, requests PENDING: AccessDenied: no"
    assert (problem.level, notice.level) == ("problem", "notice")


def test_clocks_that_are_off() -> None:
    """This machine's is a notice. A worker's is a problem, if it beats all the same."""
    here = only(snapshot(clock_offset=-200.0))
    assert (here.level, here.code) == ("notice", "clock_here")
    assert "3m behind DynamoDB's" in here.text
    ahead = only(snapshot(worker(silence=-90.0)))
    assert (ahead.level, ahead.code) == ("problem", "clock_worker")
    assert "host-a is 90s ahead of" in ahead.text
    behind = only(snapshot(worker(silence=400.0)))
    assert "behind" in behind.text
    assert found(snapshot(worker(silence=70.0), worker("w2", silence=-59.0))) == []


def test_two_releases_are_a_notice() -> None:
    """An upgrade is under way."""
    given = snapshot(worker(), worker("w2", release="1.3.0"), worker("w3", release="1.3.0"))
    assert codes(given) == [("notice", "releases")]
    assert "1.3.0 (2), 1.2.3 (1)" in only(given).text
    dead = worker("w2", release="1.0.0", beating=False)
    assert "releases" not in [code for _, code in codes(snapshot(worker(), dead))]


def test_items_that_cannot_be_decoded_are_counted() -> None:
    """With one of them as an example."""
    finding = only(snapshot(undecodable=["row w1: Host is wrong", "request r1: Action"]))
    assert (finding.level, finding.code) == ("notice", "undecodable")
    assert "2 items cannot be decoded, for example row w1" in finding.text


def test_problems_come_before_notices() -> None:
    """Whatever the order in which they are found."""
    given = snapshot(
        worker(release="1"), worker("w2", release="2"), depths={PENDING: depth(age=999)}
    )
    assert [finding.level for finding in found(given)] == ["problem", "notice"]


def test_a_status_that_could_not_be_read_is_not_judged() -> None:
    """The screen says that it is not known."""
    given = snapshot(depths={}, completed=None, failed=None, retrying=None, differences=None)
    assert found(given) == []
    assert given.now > ago(1)
