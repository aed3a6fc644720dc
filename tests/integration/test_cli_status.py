"""The command `status`, beside real workers on DynamoDB Local."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from integration.fast import FAST, ended
from integration.proxy import answering, operation_of, passing, proxy_to, resetting
from plugins import plugin
from processes import PATIENCE, PROGRAM, Process, command, environment
from streamer_store import AsyncRequest, RequestStatus, TableNames, WorkerRow
from streamer_store.schema import WORKERS
from support import START

if TYPE_CHECKING:
    from pathlib import Path

    from integration.proxy import Forward
    from streamer_store import Stores

pytestmark = [pytest.mark.anyio, pytest.mark.local]

CODE = """
    from pathlib import Path
    import anyio
    from streamer_worker import handler

    @handler("bill")
    async def bill(payload, ctx):
        if payload.get("fails"):
            raise ValueError("no such invoice")

    @handler("wait")
    async def wait(payload, ctx):
        while not Path(payload.get("until", "/nowhere")).exists():
            await anyio.sleep(0.05)
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("plugins")
    return str(plugin(folder, "bills", CODE, "bill = bills:bill", "wait = bills:wait"))


@contextmanager
def worker(settings: dict[str, str], path: str) -> Iterator[Process]:
    with Process("run", PYTHONPATH=path, **(settings | FAST)) as process:
        process.event("worker_started")
        yield process


def status(settings: dict[str, str], *arguments: str, code: int) -> dict[str, Any]:
    """Return the JSON of a screen, whose exit code must be `code`."""
    result = command("status", "--json", *arguments, **(settings | FAST))
    assert result.returncode == code, result.stdout + result.stderr
    assert result.stderr == ""
    value: dict[str, Any] = json.loads(result.stdout)
    assert value["ok"] is (code == 0)
    return value


def codes(value: dict[str, Any]) -> list[str]:
    return [finding["code"] for finding in value["findings"]]


async def enqueue(stores: Stores, count: int, action: str = "bill", **payload: Any) -> list[str]:
    requests = [AsyncRequest(action=action, payload=payload, max_retries=0) for _ in range(count)]
    return [request.request_id for request in await stores.requests.enqueue_all(requests)]


async def running(stores: Stores, *ids: str) -> None:
    """Wait until these requests are PROCESSING."""
    with anyio.fail_after(PATIENCE):
        while True:
            found = await stores.requests.get_many(ids)
            if all(found[key].status is RequestStatus.PROCESSING for key in ids):
                return
            await anyio.sleep(0.05)


async def test_a_fleet_that_is_well(real: tuple[Stores, dict[str, str]], path: str) -> None:
    """Exit code 0. Target, worker, depths and what has ended are shown."""
    stores, settings = real
    with worker(settings, path):
        await ended(stores, *await enqueue(stores, 5))
        value = status(settings, code=0)
        assert value["findings"] == []
        assert value["target"] == {
            "endpoint": settings["STREAMER_ENDPOINT_URL"],
            "region": "us-east-1",
            "prefix": settings["STREAMER_TABLE_PREFIX"],
            "tables": TableNames.from_prefix(settings["STREAMER_TABLE_PREFIX"]).as_dict(),
        }
        (only,) = value["workers"]
        assert (only["beating"], only["concurrency"]) == (True, 32)
        assert only["actions"] == ["bill", "wait"]
        assert value["outcomes"]["completed"]["per_minute"] == 1.0
        assert value["requests"]["PENDING"]["count"] == 0
        assert value["read_units"] > 0
        assert abs(value["clock_offset"]) < 60
        text = command("status", **(settings | FAST))
        assert text.returncode == 0
        assert text.stdout.startswith("ok  ")
        assert len(text.stdout.splitlines()) <= 12


async def test_no_worker(real: tuple[Stores, dict[str, str]]) -> None:
    """Exit code 1, on empty tables and with requests that wait."""
    stores, settings = real
    assert codes(status(settings, code=1)) == ["no_worker"]
    await enqueue(stores, 3)
    (finding,) = status(settings, code=1)["findings"]
    assert "3 requests wait" in finding["text"]


async def test_a_killed_worker(real: tuple[Stores, dict[str, str]], path: str) -> None:
    """Its row and its requests are left, as no other worker takes them."""
    stores, settings = real
    with worker(settings, path) as process:
        ids = await enqueue(stores, 2, "wait")
        await running(stores, *ids)
        process.signal(signal.SIGKILL)
        process.ended()
    # Its last heartbeat counts for a lease.
    with Process("status", "--watch", "--json", "--every", "0.5", **(settings | FAST)) as watch:
        value = json.loads(watch.found('^.*"no_worker".*$'))
    assert codes(value) == ["no_worker", "worker_silent", "orphans"]
    silent, orphans = value["findings"][1:]
    assert f"pid {process.pid}" in silent["text"]
    assert orphans["text"].startswith("2 requests are PROCESSING")
    assert any(request_id in orphans["text"] for request_id in ids)


async def test_a_worker_that_was_lost_is_remembered(
    real: tuple[Stores, dict[str, str]], path: str, tmp_path: Path
) -> None:
    """Its row is gone, and its request has run again. A notice is no problem."""
    stores, settings = real
    until = tmp_path / "go-on"
    with worker(settings, path) as process:
        lost = process.event("worker_started")["worker_id"]
        request = AsyncRequest(action="wait", payload={"until": str(until)})
        request_id = (await stores.requests.enqueue(request)).request_id
        await running(stores, request_id)
        process.signal(signal.SIGKILL)
        process.ended()
    until.touch()
    with worker(settings, path):
        await ended(stores, request_id)
        (finding,) = status(settings, code=0)["findings"]
    assert finding["code"] == "workers_lost"
    assert finding["text"].startswith("1 worker died or lost contact in the last hour")
    assert finding["text"].endswith(lost)


async def test_an_unknown_action(real: tuple[Stores, dict[str, str]], path: str) -> None:
    """The worker's own actions do not count, and RETRYING requests do."""
    stores, settings = real
    with worker(settings, path):
        await enqueue(stores, 4, "mail")
        (finding,) = status(settings, code=1)["findings"]
        assert finding["code"] == "unhandled_action"
        assert "mail: 4 requests wait" in finding["text"]


async def test_failures(real: tuple[Stores, dict[str, str]], path: str) -> None:
    """By action and code, with an id that can be shown."""
    stores, settings = real
    with worker(settings, path):
        ids = await enqueue(stores, 6, fails=True)
        await ended(stores, *ids)
        value = status(settings, code=1)
        assert codes(value) == ["failures_high"]
        (failures,) = value["failures"]
        assert failures["action"] == "bill"
        assert failures["code"] == "PROCESSING_FAILED"
        assert failures["count"] == 6
        assert failures["example"] in ids


async def test_a_request_that_waits_too_long(real: tuple[Stores, dict[str, str]]) -> None:
    """The limit is an option."""
    stores, settings = real
    await stores.requests.enqueue(AsyncRequest(action="bill", created_at=START.replace(year=2020)))
    assert "queue_old" in codes(status(settings, code=1))
    assert "queue_old" not in codes(status(settings, "--max-age", "9999d", code=1))
    wrong = command("status", "--max-age", "soon", **settings)
    assert wrong.returncode == 2


async def test_missing_tables(local_url: str) -> None:
    """Exit code 1, and what to do."""
    settings = {"STREAMER_ENDPOINT_URL": local_url, "STREAMER_TABLE_PREFIX": "nothing_"}
    (finding,) = status(settings, code=1)["findings"]
    assert finding["code"] == "tables_missing"
    assert "tables create" in finding["todo"]


async def test_an_endpoint_that_does_not_answer() -> None:
    """One line on stderr, and exit code 1."""
    result = command("status", STREAMER_ENDPOINT_URL="http://127.0.0.1:1")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: DynamoDB did not answer")
    assert result.stderr.count("\n") == 1


async def test_an_operator_who_may_not_read_all(real: tuple[Stores, dict[str, str]]) -> None:
    """What is denied is said in one line. The rest is shown."""
    stores, settings = real
    await enqueue(stores, 2)
    denied = answering(400, "AccessDeniedException")
    with proxy_to(settings["STREAMER_ENDPOINT_URL"]) as proxy:

        async def fault(request: Any, forward: Forward) -> Any:
            if operation_of(request) in {"Scan", "DescribeTable", "BatchGetItem"}:
                return await denied(request, forward)
            return await forward()

        proxy.fault = fault
        value = status(settings | {"STREAMER_ENDPOINT_URL": proxy.url}, code=1)
    assert codes(value) == ["unreadable", "unreadable"]
    problem, notice = value["findings"]
    assert problem["text"].startswith("cannot read workers: AccessDeniedException: injected")
    assert "descriptions" in notice["text"]
    assert value["workers"] is None
    assert value["requests"]["PENDING"]["count"] == 2


async def test_thousands_of_rows_and_broken_ones(
    real: tuple[Stores, dict[str, str]],
) -> None:
    """The screen is as long as with five workers."""
    stores, settings = real
    rows = [
        WorkerRow(worker_id=f"w{number}", started_at=START, host="h", concurrency=4)
        for number in range(20)
    ]
    for row in rows:
        await stores.workers.register(row)
    items = [
        {"WorkerID": {"S": f"x{number}"}, "StartedAt": {"S": "yesterday"}, "Beat": {"S": "1"}}
        for number in range(2_500)
    ]
    await stores.engine.put_many(WORKERS, items)
    result = command("status", COLUMNS="80", **(settings | FAST))
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    assert "rows of workers were read" in result.stdout
    assert "cannot be decoded" in result.stdout


async def test_watching_without_a_terminal(real: tuple[Stores, dict[str, str]]) -> None:
    """A screen each interval, and an empty line after it. An outage is a line, and passes."""
    stores, settings = real
    await enqueue(stores, 1)
    with proxy_to(settings["STREAMER_ENDPOINT_URL"]) as proxy:
        through = settings | FAST | {"STREAMER_ENDPOINT_URL": proxy.url}
        with Process("status", "--watch", "--every", "0.5", **through) as watch:
            watch.seen("no worker is alive, and 1 request waits", 2)
            proxy.fault = resetting
            watch.found("^error: DynamoDB did not answer")
            proxy.fault = passing
            await enqueue(stores, 1)
            watch.found("no worker is alive, and 2 requests wait")
            watch.signal(signal.SIGINT)
            assert watch.ended() == 1
        assert "" in watch.lines
        assert not any("Traceback" in line or "Aborted" in line for line in watch.lines)


async def test_watching_as_json(real: tuple[Stores, dict[str, str]], path: str) -> None:
    """One line a screen. Ctrl-C ends it with the exit code of the last screen."""
    _, settings = real
    with worker(settings, path):
        with Process("status", "--watch", "--json", "--every", "0.5", **(settings | FAST)) as watch:
            watch.seen('"ok": true', 2)
            watch.signal(signal.SIGINT)
            assert watch.ended() == 0
        assert all(json.loads(line)["ok"] for line in watch.lines)


async def test_watching_on_a_terminal(real: tuple[Stores, dict[str, str]]) -> None:
    """The screen is drawn again in its place, in colour. Ctrl-C ends it without a message."""
    _, settings = real
    ours, theirs = pty.openpty()
    env = environment(**(settings | FAST), TERM="xterm-256color", COLUMNS="80", LINES="24")
    del env["NO_COLOR"]
    arguments = [PROGRAM, "status", "--watch", "--every", "0.5"]
    with subprocess.Popen(arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=env) as watch:  # noqa: S603, ASYNC220
        os.close(theirs)
        try:
            drawn = b""
            while drawn.count(b"UTC") < 3:
                drawn += os.read(ours, 65_536)
            watch.send_signal(signal.SIGINT)
            assert watch.wait(PATIENCE) == 1
            with suppress(OSError):  # the other end is closed
                while rest := os.read(ours, 65_536):
                    drawn += rest
        finally:
            watch.kill()
            os.close(ours)
    assert b"\x1b[1;31mproblem" in drawn
    assert b"\x1b[1A" in drawn  # back to the line before
    assert b"Aborted" not in drawn
    assert b"Traceback" not in drawn
