import pytest

from reports_plugin import Database, count_words, generate_report
from streamer_worker.testing import run_handler, start_handler
from streamer_worker.testing.fixtures import Streamer


@pytest.mark.anyio
async def test_a_report_goes_on_where_it_stopped() -> None:
    run = await run_handler(generate_report, {"rows": 1000}, checkpoint=500, attempt=2)
    assert run.result == {"rows": 1000, "url": "https://reports.example/request-1.pdf"}
    assert run.checkpoints == [750, 1000]


@pytest.mark.anyio
async def test_a_stopping_worker_keeps_what_was_read() -> None:
    async with start_handler(generate_report, {"rows": 100_000}, state=Database()) as run:
        await run.until(lambda run: len(run.checkpoints) == 2)
        run.release()
    assert (run.status, run.request.checkpoint) == ("released", 500)


@pytest.mark.anyio
@pytest.mark.parametrize("rows", [0, "many", None])
async def test_a_report_has_rows(rows: object) -> None:
    run = await run_handler(generate_report, {"rows": rows})
    assert run.request.error_code == "VALIDATION_ERROR"
    assert "rows: " in str(run.request.error)


@pytest.mark.anyio
async def test_nothing_cannot_be_counted() -> None:
    run = await run_handler(count_words, {"text": " "})
    assert run.request.error_code == "EMPTY"


def test_a_client_is_told(streamer: Streamer) -> None:
    streamer.call(streamer.worker.connect, "connection-1")
    request = streamer.run("count_words", {"text": "a b c"}, connection_id="connection-1")
    assert request.result == {"data": 3}
    assert streamer.delivered[-1].message["result"] == {"data": 3}
