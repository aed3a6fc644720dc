import pytest

from reports_plugin import Database, Report, Text, count_words, write_report
from streamer_worker.testing import run_handler, start_handler
from streamer_worker.testing.fixtures import Streamer


@pytest.mark.anyio
async def test_a_report_continues_after_its_last_checkpoint() -> None:
    """The second attempt starts at row 500."""
    run = await run_handler(
        write_report, Report(rows=1000), state=Database(), checkpoint=500, attempt=2
    )
    assert run.result == {"rows": 1000, "url": "https://reports.example/request-1.pdf"}
    assert run.checkpoints == [750, 1000]


@pytest.mark.anyio
async def test_a_released_report_keeps_its_checkpoint() -> None:
    """The request is released, and the next worker continues at row 500."""
    async with start_handler(write_report, Report(rows=100_000), state=Database()) as run:
        await run.until(lambda run: len(run.checkpoints) == 2)
        run.release()
    assert (run.status, run.request.checkpoint) == ("released", 500)


@pytest.mark.anyio
@pytest.mark.parametrize("rows", [0, "many", None])
async def test_an_invalid_number_of_rows_fails(rows: object) -> None:
    """The error code is VALIDATION_ERROR, and the error names the field."""
    run = await run_handler(write_report, {"rows": rows}, state=Database())
    assert run.request.error_code == "VALIDATION_ERROR"
    assert "rows: " in str(run.request.error)


@pytest.mark.anyio
async def test_a_text_without_words_is_rejected() -> None:
    """The error code is EMPTY."""
    run = await run_handler(count_words, Text(text=" "))
    assert run.request.error_code == "EMPTY"


def test_the_result_is_pushed_to_the_connection(streamer: Streamer) -> None:
    """A whole worker in memory runs the request."""
    streamer.call(streamer.worker.connect, "connection-1")
    request = streamer.run("count_words", {"text": "a b c"}, connection_id="connection-1")
    assert request.result == {"data": 3}
    assert streamer.delivered[-1].message["result"] == {"data": 3}
