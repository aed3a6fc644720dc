"""Lone surrogates, as in file names that are not UTF-8, in values of handlers."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest
import structlog

from streamer_store import ValidationError
from streamer_worker import Context, Reject, RetryLater, handler
from streamer_worker.handlers.definition import Handler
from streamer_worker.handlers.latest_progress import LatestProgress
from streamer_worker.handlers.worker_channel import ProgressUpdate
from streamer_worker.monitoring.logs import configure_logging
from streamer_worker.settings import LogSettings
from streamer_worker.testing import run_handler
from unit.worker import awkward
from unit.worker.awkward import DETAILS_SHOWN, NAME, SHOWN
from unit.worker.benches import Raising
from unit.worker.harness import on_asyncio

pytestmark = pytest.mark.anyio


@on_asyncio
@pytest.mark.parametrize(
    "reporting",
    [awkward.report, awkward.report_in_thread, awkward.report_in_process],
    ids=lambda function: function.action,
)
async def test_progress_with_surrogates_is_stored_with_escapes(reporting: Handler) -> None:
    """Message and details are for people, so they do not fail the attempt, wherever it runs."""
    run = await run_handler(reporting)
    assert run.status == "completed"
    assert run.request.progress_message == SHOWN
    assert run.request.progress_details == DETAILS_SHOWN


def test_details_that_contain_themselves_are_refused() -> None:
    """The error is the same with and without surrogates."""
    details: dict[str, Any] = {NAME: NAME}
    details["again"] = details
    with pytest.raises(ValidationError, match="nested deeper"):
        LatestProgress(0.0).report(ProgressUpdate(details=details))


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ValueError(NAME), "failed", "PROCESSING_FAILED"),
        (Reject(NAME, code=NAME), "failed", SHOWN),
        (RetryLater(NAME, after=5), "snoozed", None),
        (ExceptionGroup(NAME, [ValueError(NAME)]), "failed", "PROCESSING_FAILED"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_exception_with_surrogates_is_stored_with_escapes(
    error: Exception, status: str, code: str | None
) -> None:
    """Text and code are kept."""
    run = await run_handler(Raising(error).handler, max_retries=0)
    assert (run.status, run.request.error_code) == (status, code)
    assert run.request.error is not None
    assert SHOWN in run.request.error


@pytest.mark.parametrize("form", ["json", "console"])
async def test_log_lines_with_surrogates_are_written_with_escapes(form: Any) -> None:
    """This includes fields, their names, the event, and arguments of the standard library's
    loggers.
    """
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="utf-8", write_through=True)

    @handler("report")
    async def report(_payload: dict[str, Any], ctx: Context) -> None:
        ctx.log.info(NAME, **{NAME: NAME, "files": [NAME, {NAME: NAME}]})
        logging.getLogger("plugin").warning("no %s", NAME, extra={"file": NAME})
        ctx.log.warning("failed", exc_info=OSError(NAME))

    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        configure_logging(LogSettings(format=form), stream=stream)
        run = await run_handler(report)
    finally:
        root.handlers, root.level = before, level
        structlog.reset_defaults()
    assert run.status == "completed"
    lines = raw.getvalue().decode()
    assert lines.count("udcff") >= 9
    if form == "json":
        assert [json.loads(line)["level"] for line in lines.splitlines()] == [
            *("info", "warning", "warning")
        ]


def test_an_action_with_a_surrogate_is_refused() -> None:
    """The worker's row lists its actions, so no heartbeat could be written."""
    with pytest.raises(ValueError, match="surrogate"):
        handler(NAME)


@on_asyncio
@pytest.mark.parametrize(
    "saving",
    [awkward.save, awkward.save_in_thread, awkward.save_in_process],
    ids=lambda function: function.action,
)
@pytest.mark.parametrize(
    ("value", "code", "text"),
    [
        ("surrogate", "INVALID_CHECKPOINT", "checkpoint.file"),
        ("object", "INVALID_CHECKPOINT", "checkpoint"),
        ("function", "INVALID_CHECKPOINT", "checkpoint"),
        ("too much", "ITEM_TOO_LARGE", "checkpoint"),
    ],
)
async def test_a_checkpoint_that_cannot_be_stored_fails_the_request_at_once(
    saving: Handler, value: str, code: str, text: str
) -> None:
    """No retry is used: the next attempt would fail in the same way."""
    run = await run_handler(saving, {"value": value}, max_retries=5)
    assert (run.status, run.request.error_code) == ("failed", code)
    assert run.request.error is not None
    assert text in run.request.error


@on_asyncio
@pytest.mark.parametrize(
    "giving",
    [awkward.give, awkward.give_in_thread, awkward.give_in_process],
    ids=lambda function: function.action,
)
@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("surrogate", "INVALID_RESULT"),
        ("object", "INVALID_RESULT"),
        ("function", "INVALID_RESULT"),
        ("too much", "ITEM_TOO_LARGE"),
    ],
)
async def test_a_result_that_cannot_be_stored_fails_the_request_at_once(
    giving: Handler, value: str, code: str
) -> None:
    """Results are never changed, wherever the handler runs."""
    run = await run_handler(giving, {"value": value}, max_retries=5)
    assert (run.status, run.request.error_code) == ("failed", code)


@on_asyncio
@pytest.mark.parametrize(
    "detailing",
    [awkward.detail, awkward.detail_in_thread, awkward.detail_in_process],
    ids=lambda function: function.action,
)
async def test_details_that_no_item_has_room_for_fail_the_request_at_once(
    detailing: Handler,
) -> None:
    """They would fail every other attempt, too."""
    run = await run_handler(detailing, {"value": "too much"}, max_retries=5)
    assert (run.status, run.request.error_code) == ("failed", "ITEM_TOO_LARGE")


@on_asyncio
async def test_a_subclass_of_reject_is_passed_from_a_process() -> None:
    """In an exception group, too."""
    run = await run_handler(awkward.group_in_process, max_retries=5)
    assert (run.status, run.request.error_code) == ("failed", "NO_ACCOUNT")
    assert run.request.error == "the bank has no account 7"
