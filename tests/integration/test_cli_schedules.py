"""`schedules`, its commands, and schedules in `check` and `handlers`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from integration.desk import Desk, desk
from streamer_store import AsyncRequest, ScheduleRow, WorkerRow
from streamer_store.engine import Put
from streamer_store.schedule_row import listing, row_key, tick_id
from streamer_store.schema import WORKERS

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["desk"]

NOW = datetime.now(UTC)
TICK = NOW.replace(second=0, microsecond=0)
ROW = ScheduleRow(
    name="nightly",
    action="report",
    expression="0 3 * * *",
    timezone="Europe/Berlin",
    definition="0123",
    defined_by=NOW,
    last_tick=TICK - timedelta(minutes=1),
    listed_at=NOW,
)


def put_schedule(desk: Desk, row: ScheduleRow = ROW) -> None:
    desk.do(lambda stores: stores.schedules.create(row))


def put_worker(desk: Desk, name: str, *listings: str) -> None:
    row = WorkerRow(
        worker_id=name, host=name, started_at=NOW, release="1", schedules=frozenset(listings)
    )
    desk.do(lambda stores: stores.workers.register(row))


def test_schedules_are_listed(desk: Desk) -> None:
    """With the next five times in their zone, the last tick, and what became of it."""
    put_schedule(desk)
    put_schedule(desk, replace(ROW, name="often", expression="*/10 * * * * *", timezone="UTC"))
    put_worker(desk, "w1", listing("nightly", "0123"))
    put_worker(desk, "w2", listing("nightly", "other"))
    request = AsyncRequest(action="report")
    desk.do(lambda stores: stores.schedules.make_tick(ROW, TICK, request))
    nightly, often = desk.json("schedules")
    assert (nightly["name"], nightly["action"], nightly["cron"]) == (
        "nightly",
        "report",
        "0 3 * * *",
    )
    assert (nightly["workers"], nightly["workers_with_another_definition"]) == (2, 1)
    assert (nightly["last_request_id"], nightly["last_status"]) == (
        tick_id("nightly", TICK),
        "PENDING",
    )
    assert len(nightly["next"]) == len(often["next"]) == 5
    assert all(datetime.fromisoformat(tick) > NOW for tick in nightly["next"])
    assert (often["last_tick"], often["last_status"], often["workers"]) == (None, None, 0)
    lines = desk.run("schedules").stdout.splitlines()
    assert lines[0].split("\t")[0] == "schedule"
    assert "2 workers, 1 with another definition" in lines[1]
    assert lines[1].count(" 03:00") == 5
    assert "\tno worker\t-\t-\t" in lines[2]
    desk.do(lambda stores: stores.requests.delete(tick_id("nightly", TICK)))
    assert desk.json("schedules")[0]["last_status"] is None


def test_a_schedule_is_paused_and_resumed(desk: Desk) -> None:
    """Twice does no harm."""
    put_schedule(desk)
    first, second = (desk.run("schedules", "pause", "nightly").stdout for _ in range(2))
    assert first.startswith("paused schedule nightly, until resumed, by ")
    assert second.startswith(f"{first.strip()} (before: until resumed, by ")
    assert desk.json("schedules")[0]["paused"] is True
    assert "\tpaused\t" in desk.run("schedules").stdout
    assert desk.run("schedules", "resume", "nightly").stdout == "resumed schedule nightly\n"
    resumed = desk.json("schedules", "resume", "nightly")
    assert resumed == {"schedule": "nightly", "paused": False}
    shown = desk.json("schedules")[0]
    assert (shown["paused"], shown["pause"]) == (False, None)


def test_the_pause_of_a_schedule_has_an_end_and_a_reason(desk: Desk) -> None:
    """As that of an action."""
    put_schedule(desk)
    options = ("nightly", "--until", "2100-01-31T08:00Z", "--reason", "month end")
    paused = desk.json("schedules", "pause", *options)["pause"]
    assert (paused["until"], paused["reason"]) == ("2100-01-31T08:00:00.000000Z", "month end")
    assert desk.json("schedules")[0]["pause"] == paused
    assert "\tpaused until 2100-01-31 08:00" in desk.run("schedules").stdout
    assert desk.json("pauses") == [paused]
    text = desk.run("schedules", "pause", "nightly", "--for", "2h").stdout
    assert "(before: until 2100-01-31 08:00" in text
    refused = desk.run("schedules", "pause", "nightly", "--until", "2020-01-31T08:00Z", code=2)
    assert "has passed" in refused.output


def test_a_schedule_that_does_not_exist_is_named_with_those_that_do(desk: Desk) -> None:
    """Nothing is written."""
    assert desk.run("schedules").stdout.startswith("no schedules")
    put_schedule(desk)
    for command in ("run", "pause", "resume"):
        error = desk.run("schedules", command, "nightli", code=1).exception
        assert "no such schedule; schedules: nightly" in str(error)
        assert "'#'" in str(desk.run("schedules", command, "a#b", code=1).exception)


def test_a_run_that_no_worker_makes_is_reported(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order waits for a worker."""
    monkeypatch.setattr("streamer_worker.cli.schedules._RUN_SECONDS", 0.01)
    put_schedule(desk)
    ordered = desk.run("schedules", "run", "nightly")
    assert "no worker has made it yet" in ordered.stderr
    row = desk.do(lambda stores: stores.schedules.get("nightly"))
    assert row is not None
    assert row.run == ordered.stdout.strip()


def test_a_row_that_cannot_be_read_is_a_warning(desk: Desk) -> None:
    """So is one with an expression of another release, in its line."""
    put_schedule(desk, replace(ROW, expression="@often", timezone="Mars/Base"))
    item: dict[str, Any] = {"WorkerID": {"S": row_key("broken")}}
    desk.do(lambda stores: stores.engine.put(Put(table=WORKERS, item=item)))
    listed = desk.run("schedules")
    assert "control#cron#broken" in listed.stderr
    assert "Mars/Base" in listed.stdout


def test_check_and_handlers_report_the_faults_of_schedules(desk: Desk, tmp_path: Path) -> None:
    """All together, and the schedules if there is none."""
    module = tmp_path / "cron_handlers.py"
    module.write_text(
        "from streamer_worker import handler\n"
        "@handler('report', cron='0 3 * * *', payload={})\n"
        "async def report(payload, ctx): ...\n"
    )
    config = tmp_path / "settings.toml"
    config.write_text("[schedules.report]\ncatch_up = '2h'\n")
    options = ("--handlers", "cron_handlers", "--app-dir", str(tmp_path), "--config", str(config))
    (listed,) = desk.json("handlers", *options)
    assert listed["schedules"] == {"report": "0 3 * * * UTC"}
    findings = desk.json("check", *options)
    assert {"ok"} == {each["level"] for each in findings if each["subject"] == "schedules"}
    config.write_text("[schedules.a]\ncron = '* *'\n[schedules.report]\ntimezone = 'Berlin'\n")
    found = desk.json("check", *options, code=1)
    texts = [each["text"] for each in found if each["level"] == "error"]
    assert len(texts) == 2
    assert any("the nearest is Europe/Berlin" in text for text in texts)
    config.write_text("[schedules.a]\ncron = '0 3 * * *'\n[schedules.b]\naction = 'report'\n")
    found = desk.json("check", *options, code=1)
    texts = [each["text"] for each in found if each["subject"] == "schedules"]
    assert len(texts) == 2
    error = desk.run("handlers", *options, code=1).exception
    assert "no handler of action 'a'; the nearest is 'report'" in str(error)
