"""`pause`, `resume` and `pauses`."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from integration.desk import Desk, desk
from streamer_store import Pause, PauseKind, Stores, WorkerRow

__all__ = ["desk"]


def _worker(desk: Desk, *actions: str, pauses: bool = True, release: str = "2.0") -> None:
    row = WorkerRow(
        worker_id=f"w-{release}",
        started_at=datetime.now(UTC),
        release=release,
        actions=frozenset(actions),
        pauses=pauses,
    )
    desk.do(lambda stores: stores.workers.register(row))


async def _start(pause: Pause, stores: Stores) -> None:
    await stores.pauses.start(pause)


def _names(desk: Desk) -> list[tuple[str, str]]:
    return [(pause["kind"], pause.get("name", "")) for pause in desk.json("pauses")]


def test_an_action_is_paused_and_resumed(desk: Desk) -> None:
    """Who, when, until and why are listed. Resumed, nothing is paused."""
    _worker(desk, "report")
    assert desk.run("pauses").stdout == "nothing is paused\n"
    paused = desk.run("pause", "--action", "report", "--for", "2h", "--reason", "upgrade")
    assert paused.stdout.startswith("paused action report, until 20")
    assert paused.stderr == ""
    (shown,) = desk.json("pauses")
    assert (shown["kind"], shown["name"], shown["reason"]) == ("action", "report", "upgrade")
    assert "@" in shown["by"]
    length = datetime.fromisoformat(shown["until"]) - datetime.fromisoformat(shown["at"])
    assert length == timedelta(hours=2)
    listed = desk.run("pauses").stdout
    assert "action report" in listed
    assert "upgrade" in listed
    assert desk.run("resume", "--action", "report").stdout == "resumed action report\n"
    assert desk.json("pauses") == []


def test_several_are_paused_at_once(desk: Desk) -> None:
    """Actions and tenants stand beside each other. `resume --all` ends all."""
    desk.run("pause", "--action", "a", "--action", "b", "--tenant", "acme")
    assert _names(desk) == [("action", "a"), ("action", "b"), ("tenant", "acme")]
    resumed = desk.run("resume", "--action", "b")
    assert resumed.stdout == "resumed action b\nstill paused: action a, tenant acme\n"
    assert len(desk.json("resume", "--all")) == 2
    assert desk.run("resume", "--all").stdout == "nothing is paused\n"


def test_a_pause_is_replaced(desk: Desk) -> None:
    """The terms of the one before are printed."""
    desk.run("pause", "--action", "a")
    again = desk.run("pause", "--action", "a", "--until", "2999-01-01T00:00Z").stdout
    assert "until 2999-01-01 00:00:00 UTC" in again
    assert "(before: until resumed, by " in again


def test_everything_is_paused_after_a_question(desk: Desk) -> None:
    """Without a terminal and --yes it is refused. `resume` without options ends it."""
    desk.run("pause", "--action", "a")
    assert "Pause all requests" in desk.run("pause", code=2).stderr
    assert _names(desk) == [("action", "a")]
    assert desk.answered("n\n", "pause").returncode == 1
    assert desk.answered("y\n", "pause").returncode == 0
    assert desk.run("pause", "--yes").stdout.startswith("paused everything, until resumed")
    assert _names(desk) == [("action", "a"), ("all", "")]
    assert desk.run("resume").stdout == "resumed everything\nstill paused: action a\n"


def test_resuming_an_action_ends_its_hold_and_its_fuse(desk: Desk) -> None:
    """An operator's word is stronger than what workers paused."""
    now = datetime.now(UTC)

    async def work(stores: Stores) -> None:
        for kind in (PauseKind.HOLD, PauseKind.FUSE):
            await stores.pauses.start(Pause(kind=kind, name="a", by="worker w", at=now))

    desk.do(work)
    assert "fuse a" in desk.run("pauses").stdout
    desk.run("resume", "--action", "a")
    assert desk.json("pauses") == []


def test_what_is_not_paused_cannot_be_resumed(desk: Desk) -> None:
    """Exit code 1, with the names."""
    assert "not paused: a, acme" in str(
        desk.run("resume", "--action", "a", "--tenant", "acme", code=1).exception
    )
    assert "not paused: everything" in str(desk.run("resume", code=1).exception)


def test_a_pause_that_is_over_is_none(desk: Desk) -> None:
    """`resume` names it neither among what it ended nor among what is left, and deletes it."""
    past = datetime.now(UTC) - timedelta(minutes=1)
    for kind, name in ((PauseKind.ACTION, "a"), (PauseKind.TENANT, "acme")):
        over = Pause(kind=kind, name=name, by="ann@desk", at=past, until=past)
        desk.do(partial(_start, over))
    assert "not paused: a" in str(desk.run("resume", "--action", "a", code=1).exception)
    assert desk.do(lambda stores: stores.pauses.read_all())[0].name == "acme"
    desk.run("pause", "--action", "b")
    assert desk.run("resume", "--action", "b").stdout == "resumed action b\n"


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (("--action", "report"), "resume --action report"),
        (("--action", "a b"), "resume --action 'a b'"),
        (("--tenant", "acme"), "resume --tenant acme"),
        (("--yes",), "resume"),
    ],
)
def test_the_advice_ends_the_pause(arguments: tuple[str, ...], command: str, desk: Desk) -> None:
    """`status` and `check` name the whole command."""
    _worker(desk, "report")
    desk.run("pause", *arguments)
    (finding,) = desk.json("status")["findings"]
    assert finding["todo"] == f"`streamer-worker {command}` ends it"
    checked = {each["subject"]: each["todo"] for each in desk.json("check", code=1)}
    assert checked["pauses"] == finding["todo"]
    desk.run(*shlex.split(command))
    assert desk.json("pauses") == []


@pytest.mark.parametrize("arguments", [("--action", "report"), ("--tenant", "acme"), ("--yes",)])
def test_a_request_that_is_paused_is_a_warning(arguments: tuple[str, ...], desk: Desk) -> None:
    """Of `enqueue` and `show`. What is not paused has none."""
    _worker(desk, "report", "other")
    own = ("--tenant", "acme") if "acme" in arguments else ()
    assert desk.run("enqueue", "report", "--id", "1", *own).stderr == ""
    desk.run("pause", *arguments, "--reason", "upgrade")
    warning = " is paused until resumed, by "
    assert warning in desk.run("enqueue", "report", "--id", "2", *own).stderr
    assert warning in desk.run("show", "2").stderr
    if "--yes" not in arguments:
        assert desk.run("enqueue", "other", "--id", "3").stderr == ""
        assert desk.run("show", "3").stderr == ""


def test_an_action_that_nobody_knows_is_paused_with_a_warning(desk: Desk) -> None:
    """The nearest action of a live worker is named."""
    _worker(desk, "report")
    paused = desk.run("pause", "--action", "raport")
    assert "did you mean 'report'?" in paused.stderr
    assert "It is paused all the same" in paused.stderr
    assert _names(desk) == [("action", "raport")]


def test_workers_that_know_no_pauses_are_named(desk: Desk) -> None:
    """Those of an older release go on."""
    _worker(desk, "a")
    _worker(desk, "a", pauses=False, release="1.0")
    warning = desk.run("pause", "--action", "a").stderr
    assert "1 live worker of an older release know no pauses, and go on: w-1.0 (1.0)" in " ".join(
        warning.split()
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--for", "soon"), "is not a duration"),
        (("--until", "2999-01-01T08:00"), "has no time zone: add Z for UTC, or an offset"),
        (("--until", "2020-01-01T08:00Z"), "2020-01-01 08:00:00 UTC has passed"),
        (("--until", "2999-01-01T08:00Z", "--for", "1m"), "--until and --for cannot be combined"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, tuple) else "",
)
def test_a_wrong_end_is_refused(options: tuple[str, ...], text: str, desk: Desk) -> None:
    """In words, with exit code 2, before anything is written."""
    stderr = " ".join(desk.run("pause", "--action", "a", *options, code=2).stderr.split())
    assert text in stderr.replace("│ ", "").replace(" │", "")
    assert desk.json("pauses") == []


def test_a_reason_that_is_too_long_is_refused(desk: Desk) -> None:
    """With its size and the limit."""
    refused = desk.run("pause", "--action", "a", "--reason", "x" * 501, code=1)
    assert "reason: has 501 bytes, the limit is 500" in str(refused.exception)


def test_all_screens_show_what_is_paused(desk: Desk) -> None:
    """`status`, `workers` and `check`. A pause that is over is not shown."""
    _worker(desk, "report")
    desk.run("pause", "--action", "report", "--reason", "upgrade")
    past = datetime.now(UTC) - timedelta(minutes=1)
    over = Pause(kind=PauseKind.TENANT, name="acme", by="ann@desk", at=past, until=past)
    desk.do(lambda stores: stores.pauses.start(over))
    text = "action report is paused until resumed, by "
    status = desk.json("status")
    assert [pause["name"] for pause in status["pauses"]] == ["report"]
    assert [each["code"] for each in status["findings"] if text in each["text"]] == ["paused"]
    assert status["ok"]
    assert text in desk.run("workers").stderr
    checked: list[dict[str, Any]] = desk.json("check", code=1)  # no handlers are installed
    assert [each["subject"] for each in checked if text in each["text"]] == ["pauses"]
    assert "acme" not in desk.run("pauses").stdout


def test_a_paused_action_is_no_old_queue(desk: Desk) -> None:
    """`status` reports requests that wait for long, unless their action is paused."""
    _worker(desk, "report")
    desk.enqueue("1", action="report", ago=3000)
    assert "queue_old" in {each["code"] for each in desk.json("status", code=1)["findings"]}
    desk.run("pause", "--action", "report")
    findings = desk.json("status")["findings"]
    assert {each["code"] for each in findings} == {"paused"}
    assert "1 request waits" in findings[0]["text"]


def test_a_blown_fuse_is_a_problem(desk: Desk) -> None:
    """`status` exits with 1, and says what to do."""
    _worker(desk, "report")
    fuse = Pause(kind=PauseKind.FUSE, name="report", by="worker w", at=datetime.now(UTC))
    desk.do(lambda stores: stores.pauses.start(fuse))
    findings = desk.json("status", code=1)["findings"]
    assert [each["code"] for each in findings] == ["fuse_blown"]
