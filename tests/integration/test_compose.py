"""The commands of deploy/compose.yaml, run as processes with the environment of their services."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from processes import PROGRAM, ROOT, Process
from streamer_store import RequestStatus, open_stores
from support import unique_prefix

pytestmark = [pytest.mark.anyio, pytest.mark.local]
DEPLOY = ROOT / "deploy"
SERVICES: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
PROGRAMS = {"streamer-worker": PROGRAM, "python": sys.executable}
Start = Callable[[str], Process]


@pytest.fixture
def prefix() -> str:
    return unique_prefix()


@pytest.fixture
def start(local_url: str, prefix: str, plugins: str) -> Start:
    """Give a function that starts a service, as Compose does, on DynamoDB Local and free ports."""

    def start(name: str) -> Process:
        service = SERVICES[name]
        program, *arguments = service.get("entrypoint", ["streamer-worker"])
        arguments += service.get("command", [] if "entrypoint" in service else ["run"])
        for volume in service.get("volumes", ()):
            source, target, _ = volume.split(":")
            path = str((DEPLOY / source).resolve())
            arguments = [path if argument == target else argument for argument in arguments]
        own = {
            "STREAMER_ENDPOINT_URL": local_url,
            "STREAMER_TABLE_PREFIX": prefix,
            "STREAMER_HTTP_PORT": "0",
            "PYTHONPATH": f"{plugins}:{ROOT / 'store'}:{ROOT / 'worker'}",
        }
        given = service["environment"] | own
        return Process(*arguments, executable=PROGRAMS[program], **given)

    return start


async def test_the_stack_runs(start: Start, local_url: str, prefix: str) -> None:
    """The tables are created, and the worker runs what the producer enqueues.

    Both end at SIGTERM, with exit code 0.
    """
    with start("tables") as tables:
        assert tables.ended() == 0, tables.lines
    async with open_stores(endpoint_url=local_url, prefix=prefix) as stores:
        with start("worker") as worker, start("producer") as producer:
            worker.event("worker_started")
            worker.event("request_finished", action="count_words", outcome="completed")
            worker.event("request_finished", action="count_words", outcome="failed")
            worker.event("request_finished", action="generate_report", outcome="completed")
            producer.signal(signal.SIGTERM)
            assert producer.ended() == 0
            assert producer.lines[-1] == "stopped by SIGTERM"
            worker.signal(signal.SIGTERM)
            assert worker.ended() == 0
        waiting = [each async for each in stores.requests.get_by_status(RequestStatus.PROCESSING)]
        assert waiting == []


def test_the_producer_outlives_an_outage(start: Start) -> None:
    """Here no tables exist. It says so in a line, and ends at SIGTERM."""
    with start("producer") as producer:
        assert producer.found("^cannot enqueue: ")
        producer.signal(signal.SIGTERM)
        assert producer.ended() == 0
    assert not any("Traceback" in line for line in producer.lines)
