"""The table of failed attempts that `show` prints, and what JSON has of them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from rich.cells import cell_len

from streamer_store import AsyncRequest, Attempt
from streamer_worker.cli.attempts import print_attempts
from streamer_worker.cli.formatting import json_fields, summary_fields
from streamer_worker.cli.showing import print_request
from support import START

WORKER = "20660314T150926Z-3f6c1234-5678"
NO_ROWS = "ValueError: no rows"
HOSTILE = "a\nfailed  b\r\x1b[31mred\x9b2J\u202e"


def attempt(seconds: float = 0, ran: float = 1, **fields: Any) -> Attempt:
    """Return an attempt that began so long after START, and ran so long."""
    started = START + timedelta(seconds=seconds)
    defaults: dict[str, Any] = {
        "number": 1,
        "worker_id": WORKER,
        "started": started,
        "ended": started + timedelta(seconds=ran),
        "outcome": "retried",
        "error_code": "PROCESSING_FAILED",
        "error_class": "ValueError",
        "error": "no rows",
    }
    return Attempt(**defaults | fields)


def printed(capsys: pytest.CaptureFixture[str], *attempts: Attempt) -> list[list[str]]:
    """Return the cells of each line but the first one, as a pipe gets them."""
    print_attempts(attempts)
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "failed attempts"
    return [line.split("\t") for line in lines]


def test_each_attempt_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """With the number, start, duration, short worker id, outcome, code, class and text."""
    assert printed(
        capsys,
        attempt(ran=0.012),
        attempt(60, ran=30, number=2, error_class=None, error="late", error_code="TIMEOUT"),
    ) == [
        ["#", "started (UTC)", "ran", "worker", "outcome", "code", "error"],
        ["1", "03-14 15:09:26", "12ms", "3f6c1234", "retried", "PROCESSING_FAILED", NO_ROWS],
        ["2", "03-14 15:10:26", "30s", "3f6c1234", "retried", "TIMEOUT", "late"],
    ]


def test_an_attempt_without_a_start_has_the_time_of_its_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its duration is unknown."""
    _, line = printed(capsys, attempt(ended=START + timedelta(days=1), started=None))
    assert line[1:3] == ["03-15 15:09:26", "-"]


def test_a_clock_that_was_set_back_makes_no_negative_duration(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is shown as nothing."""
    assert printed(capsys, attempt(ran=-5))[1][2] == "0ms"


def test_no_text_breaks_the_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal, long, wide and hostile texts are cut or escaped: a line for each attempt."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    names = ("worker_id", "error_code", "error_class", "error")
    texts: list[dict[str, Any]] = [
        dict.fromkeys(names, text) for text in ("x" * 200, "数" * 60, HOSTILE)
    ]
    print_attempts([attempt(seconds=day, **texts[day]) for day in range(3)])
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 5
    assert all(line.isprintable() and cell_len(line) <= 80 for line in lines)


def test_another_consumers_attempt_has_no_worker(capsys: pytest.CaptureFixture[str]) -> None:
    """An id of another form is shown by its beginning."""
    lines = printed(capsys, attempt(worker_id=None), attempt(worker_id="consumer7"))
    assert [line[3] for line in lines] == ["worker", "-", "consumer"]


def test_show_has_the_table_before_the_payload(capsys: pytest.CaptureFixture[str]) -> None:
    """A request that never failed has none."""
    print_request(
        AsyncRequest(action="echo", request_id="r1", payload={"n": 1}, attempts=(attempt(),))
    )
    shown = capsys.readouterr().out.splitlines()
    assert shown[-5:-3] == ["failed attempts", shown[-4]]
    assert shown[-1].startswith("payload")
    print_request(AsyncRequest(action="echo", request_id="r1"))
    assert "attempts" not in capsys.readouterr().out


def test_json_has_every_field_of_the_attempts() -> None:
    """With times as text. Lists of requests leave the attempts out."""
    request = AsyncRequest(action="echo", request_id="r1", attempts=(attempt(error_class=None),))
    assert json_fields(request)["attempts"] == [
        {
            "number": 1,
            "worker_id": WORKER,
            "started": "2066-03-14T15:09:26.535897Z",
            "ended": "2066-03-14T15:09:27.535897Z",
            "outcome": "retried",
            "error_code": "PROCESSING_FAILED",
            "error": "no rows",
        }
    ]
    assert json_fields(AsyncRequest(action="echo"))["attempts"] == []
    assert "attempts" not in summary_fields(request)
