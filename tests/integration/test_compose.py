"""The commands of deploy/compose.yaml, run as processes with the environment of their services."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from anyio import to_thread

from dynamodb_local import free_port
from integration.gateway_clients import Client
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
def start(local_url: str, prefix: str, plugins: str, tmp_path: Path) -> Start:
    """Give a function that starts a service, as Compose does, on DynamoDB Local and free ports.

    The gateway has another port, and the names of this machine instead of those of a container.
    moto cannot be imported, as in the image.
    """
    port = str(free_port())
    (tmp_path / "moto.py").write_text("raise ImportError('the image has no moto')")

    def local(text: str) -> str:
        text = text.replace("gateway:8797", f"localhost:{port}").replace("8797", port)
        return text.replace("0.0.0.0", "127.0.0.1")  # noqa: S104

    def start(name: str) -> Process:
        service = SERVICES[name]
        program, *arguments = service.get("entrypoint", ["streamer-worker"])
        arguments += service.get("command", [] if "entrypoint" in service else ["run"])
        arguments = [local(argument) for argument in arguments]
        for volume in service.get("volumes", ()):
            source, target, _ = volume.split(":")
            path = str((DEPLOY / source).resolve())
            arguments = [re.sub(rf"^{target}(?=/|$)", path, argument) for argument in arguments]
        own = {
            "STREAMER_ENDPOINT_URL": local_url,
            "STREAMER_TABLE_PREFIX": prefix,
            "STREAMER_HTTP_PORT": "0",
            "PYTHONPATH": f"{tmp_path}:{plugins}:{ROOT / 'store'}:{ROOT / 'worker'}",
        }
        given = {key: local(value) for key, value in service["environment"].items()} | own
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
            worker.event("request_finished", action="write_report", outcome="completed")
            producer.signal(signal.SIGTERM)
            assert producer.ended() == 0
            assert producer.lines[-1] == "stopped by SIGTERM"
            worker.signal(signal.SIGTERM)
            assert worker.ended() == 0
        waiting = [each async for each in stores.requests.get_by_status(RequestStatus.PROCESSING)]
        assert waiting == []


async def test_a_request_of_the_page_moves_and_completes(start: Start) -> None:
    """The gateway and the worker share the tables, and the worker pushes to the gateway.

    The health check of the gateway accepts it. Both end at SIGTERM, with exit code 0.
    """
    with start("tables") as tables:
        assert tables.ended() == 0, tables.lines
    with start("worker") as worker, start("gateway") as gateway:
        url = await to_thread.run_sync(gateway.found, r"^Open (http://\S+) ")
        check = SERVICES["gateway"]["healthcheck"]["test"][3].replace("8797", url.split(":")[-1])
        with Process("-c", check, executable=sys.executable) as checked:
            assert await to_thread.run_sync(checked.ended) == 0
        async with aiohttp.ClientSession() as session:
            ada = Client(await session.ws_connect(f"{url}/ws?user=ada"))
            request_id = await ada.request("generate_report", pages=5)
            end = await ada.until("complete", request_id=request_id)
            assert end["result"] == {"pages": 5}
            moved = [each["percentage"] for each in ada.received if each["type"] == "progress"]
            assert moved == sorted(moved)
            assert len(moved) >= 2
            gateway.signal(signal.SIGTERM)
            assert await ada.closed() == 1001
        assert await to_thread.run_sync(gateway.ended) == 0
        worker.signal(signal.SIGTERM)
        assert await to_thread.run_sync(worker.ended) == 0
    assert not any("Traceback" in line for line in gateway.lines)


def test_the_producer_outlives_an_outage(start: Start) -> None:
    """Here no tables exist. It says so in a line, and ends at SIGTERM."""
    with start("producer") as producer:
        assert producer.found("^cannot enqueue: ")
        producer.signal(signal.SIGTERM)
        assert producer.ended() == 0
    assert not any("Traceback" in line for line in producer.lines)
