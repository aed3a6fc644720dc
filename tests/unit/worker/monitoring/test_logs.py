"""The format of the log, and its levels."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import pytest
import structlog
from cachetools import TTLCache

from streamer_worker.events import WorkerStopped
from streamer_worker.monitoring.logs import LogListener
from support import ManualClock
from unit.worker.output import Output

NASTY = "red \x1b[31m bell \x07 right\u202eleft lone \ud800"
pytestmark = pytest.mark.usefixtures("logging_restored")

FORBIDDEN = set("\x1b\x07\u202e\ud800")


def test_without_a_terminal_each_line_is_json() -> None:
    """A line has the event, level, logger, time and fields."""
    output = Output()
    output.log.info("rows_read", rows=3)
    (line,) = output.lines
    assert (line["event"], line["level"], line["logger"]) == ("rows_read", "info", "my.plugin")
    assert line["rows"] == 3
    assert line["timestamp"].endswith("Z")


def test_the_standard_librarys_records_look_the_same() -> None:
    """Records of libraries are in the same stream and format, with their `extra` fields."""
    output = Output()
    logging.getLogger("some.library").warning("read %d rows", 3, extra={"table": "t"})
    (line,) = output.lines
    assert (line["event"], line["level"]) == ("read 3 rows", "warning")
    assert (line["logger"], line["table"]) == ("some.library", "t")


def test_a_field_whose_name_is_no_text_is_logged() -> None:
    """A library may use any keys in `extra`."""
    output = Output()
    extra: dict[Any, str] = {7: "seven", "a\nb": "two"}
    logging.getLogger("some.library").warning("read", extra=extra)
    (line,) = output.lines
    assert (line["7"], line["a\\nb"]) == ("seven", "two")


@pytest.mark.parametrize(
    ("terminal", "chosen", "is_json"),
    [
        (False, "auto", True),
        (True, "auto", False),
        (False, "console", False),
        (True, "json", True),
    ],
)
def test_the_format_follows_the_terminal_unless_chosen(
    chosen: str, *, terminal: bool, is_json: bool
) -> None:
    """A terminal gets console lines, everything else gets JSON."""
    output = Output(terminal=terminal, format=chosen)
    output.log.info("rows_read")
    assert "rows_read" in output.text
    assert output.text.startswith("{") is is_json


def test_colours_are_for_terminals_only() -> None:
    """Console lines in a file have no escape sequences."""
    output = Output(format="console")
    output.log.info("rows_read", rows=3)
    assert "\x1b" not in output.text


def test_loggers_may_have_levels_of_their_own() -> None:
    """A level applies to a logger and those below it, also to the worker's own."""
    output = Output(level="warning", levels={"my": "debug", "noisy.library": "error"})
    output.log.debug("mine")
    logging.getLogger("noisy.library.part").warning("noise")
    logging.getLogger("noisy").warning("signal")
    assert [line["event"] for line in output.lines] == ["mine", "signal"]


def test_lines_below_the_level_are_not_written() -> None:
    """This holds for structlog and for the standard library."""
    output = Output(level="warning")
    for log in (output.log, logging.getLogger("some.library")):
        log.info("no")
        log.warning("yes")
    assert [line["event"] for line in output.lines] == ["yes", "yes"]


@pytest.mark.parametrize("name", ["botocore", "aiobotocore.endpoint", "aiohttp.client"])
def test_clients_never_log_the_bodies_of_requests(name: str) -> None:
    """At debug level AWS clients would log payloads."""
    output = Output(level="debug")
    logging.getLogger(name).debug("body: secret")
    assert output.text == ""


@pytest.mark.parametrize("chosen", ["json", "console"])
@pytest.mark.parametrize("source", ["structlog", "standard", "field", "extra"])
def test_control_characters_are_escaped(chosen: str, source: str) -> None:
    """Text from other programs cannot control a terminal."""
    output = Output(format=chosen)
    standard = logging.getLogger("some.library")
    match source:
        case "structlog":
            output.log.info(NASTY)
        case "standard":
            standard.info("%s", NASTY)
        case "field":
            output.log.info("x", field=NASTY)
        case "extra":
            standard.info("x", extra={"field": NASTY})
    _assert_clean(output, chosen)


@pytest.mark.parametrize("chosen", ["json", "console"])
@pytest.mark.parametrize("source", ["structlog", "standard"])
def test_control_characters_in_exceptions_are_escaped(chosen: str, source: str) -> None:
    """The text of a traceback comes from other programs, too."""
    output = Output(format=chosen)
    log = output.log if source == "structlog" else logging.getLogger("some.library")
    try:
        int(NASTY)
    except ValueError as error:
        error.args = (NASTY,)  # int() escapes it itself
        log.exception("failed")
    _assert_clean(output, chosen)
    assert "ValueError" in output.text
    assert "test_logs.py" in output.text


def _assert_clean(output: Output, chosen: str) -> None:
    shown = output.text if chosen == "console" else "".join(map(str, output.lines[0].values()))
    assert not FORBIDDEN & set(shown)
    assert "x1b[31m" in shown


@pytest.mark.parametrize("chosen", ["json", "console"])
@pytest.mark.parametrize("terminal", [False, True])
def test_tracebacks_show_no_local_variables(chosen: str, *, terminal: bool) -> None:
    """Local variables would contain payloads."""
    output = Output(format=chosen, terminal=terminal)

    def work(payload: dict[str, str]) -> None:
        del payload["missing"]

    try:
        work({"iban": "DE00" + "1234"})
    except KeyError:
        output.log.exception("failed")
    assert "KeyError" in output.text
    assert "DE001234" not in output.text


@pytest.mark.parametrize("chosen", ["json", "console"])
def test_a_long_traceback_keeps_its_end(chosen: str) -> None:
    """The last line has the error."""
    output = Output(format=chosen)

    def dive(depth: int) -> None:
        if depth == 0:
            raise ValueError("the reason")
        (dive if depth % 2 else dive_too)(depth - 1)

    def dive_too(depth: int) -> None:
        dive(depth)

    try:
        dive(100)
    except ValueError:
        output.log.exception("failed")
    assert "ValueError: the reason" in output.text


def test_clients_log_a_text_once_a_minute_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """botocore logs a traceback at each call while credentials cannot be refreshed.

    Other libraries keep their tracebacks.
    """
    time = ManualClock()
    monkeypatch.setattr(
        "streamer_worker.monitoring.client_loggers.TTLCache",
        partial(TTLCache, timer=time.steady),
    )
    output = Output()

    def refresh() -> None:
        try:
            int(NASTY)
        except ValueError as error:
            error.args = (NASTY,)
            logging.getLogger("botocore.credentials").warning("Refreshing failed", exc_info=True)

    refresh()
    refresh()
    logging.getLogger("botocore.credentials").warning("another")
    time.advance(60)
    refresh()
    assert [line["event"] for line in output.lines] == [
        "Refreshing failed",
        "another",
        "Refreshing failed",
    ]
    assert output.lines[0]["error"].startswith("ValueError: red \\x1b[31m")
    assert "Traceback" not in output.text
    for _ in range(2):
        logging.getLogger("aiohttp.server").error("failed", exc_info=ValueError("x"))
    assert [line.get("exception") for line in output.lines[3:]] == ["ValueError: x"] * 2


def test_json_begins_with_time_level_and_event() -> None:
    """In this order, for every logger, also if fields are bound under these names."""
    output = Output()
    bound = dict.fromkeys(("logger", "event", "level", "timestamp", "mine"), "bound")
    with structlog.contextvars.bound_contextvars(**bound):
        output.log.info("one", rows=3)
        logging.getLogger("some.library").info("two", extra={"table": "t"})
        LogListener(output.worker_log)(WorkerStopped(worker_id="w"))
        output.worker_log.logger("streamer_worker").info("three")
    head = ["timestamp", "level", "event", "logger"]
    assert [list(line)[:4] for line in output.lines] == [head] * 4
    assert [(line["event"], line["level"]) for line in output.lines] == [
        ("one", "info"),
        ("two", "info"),
        ("worker_stopped", "info"),
        ("three", "info"),
    ]
    assert "bound" not in {line["timestamp"] for line in output.lines}
