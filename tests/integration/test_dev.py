"""`streamer-worker dev`: a worker and a DynamoDB for development, without AWS."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest

from processes import Process, command
from streamer_store import AsyncRequest, open_stores_sync
from support import START, connection, unique_prefix, unrelated_names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HELLO = """
from streamer_worker import handler

@handler("greet")
async def greet(payload, ctx):
    return {{"{word}": payload["name"]}}
"""
ELSEWHERE = {
    "AWS_PROFILE": "no_such_profile",
    "AWS_SESSION_TOKEN": "real",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "HTTP_PROXY": "http://127.0.0.1:1",
}


def _free_port() -> str:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hello.py").write_text(HELLO.format(word="hello"))
    return tmp_path


def _exported(line: str) -> dict[str, str]:
    return dict(each.split("=", 1) for each in line.split())


@pytest.fixture
def dev(folder: Path) -> Iterator[Process]:
    """Give a `dev` whose worker has started."""
    assert folder.exists()
    arguments = ("--handlers", "hello:greet", "--port", _free_port())
    with Process("dev", *arguments, **ELSEWHERE) as process:
        process.event("worker_started", actions=["greet"])
        yield process
        process.signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.ended()


def _greeted(variables: dict[str, str]) -> object:
    payload = json.dumps({"name": "Ada"})
    ended = command("enqueue", "greet", "--payload", payload, "--wait", "--json", **variables)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)["result"]


def test_another_terminal_needs_one_line(dev: Process, folder: Path) -> None:
    """With its variables, in any region, requests are answered, also after a change of the code."""
    variables = _exported(dev.found(r"^  export (.*)"))
    assert "amazonaws" not in json.dumps(variables)
    assert _greeted(variables) == {"hello": "Ada"}
    (folder / "hello.py").write_text(HELLO.format(word="goodbye"))
    dev.seen('"worker_started"', 2)
    assert _greeted(variables | {"AWS_DEFAULT_REGION": "ap-south-1"}) == {"goodbye": "Ada"}


def test_it_takes_a_settings_file(folder: Path) -> None:
    """Its schedules and prefix are in force, also in the other terminal."""
    settings = """
        table_prefix = "mine_"
        [schedules.greet]
        cron = "* * * * * *"
        payload = { name = "Ada" }
    """
    (folder / "settings.toml").write_text(settings)
    arguments = ("--handlers", "hello:greet", "--port", _free_port(), "--config", "settings.toml")
    with Process("dev", *arguments, **ELSEWHERE) as process:
        variables = _exported(process.found(r"^  export (.*)"))
        process.event("schedule_ticked", schedule="greet")
        listed = command("schedules", "--json", **variables)
        assert [each["name"] for each in json.loads(listed.stdout)] == ["greet"]
        process.signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.ended()


def test_messages_are_logged(dev: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no gateway to post them to."""
    variables = _exported(dev.found(r"^  export (.*)"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with open_stores_sync(region="us-east-1", batch_writes=False) as stores:
        endpoint = "wss://abc.execute-api.us-east-1.amazonaws.com/test"
        stores.connections.save(connection("c1", endpoint=endpoint, connected_at=START))
        request = AsyncRequest(action="greet", payload={"name": "Ada"}, connection_id="c1")
        stores.requests.enqueue(request)
    assert "hello" in dev.event("push_logged", connection_id="c1")["data"]


def test_the_duplicate_of_a_request_is_refused(dev: Process, folder: Path) -> None:
    """Many requests at once are each conditional, though the embedded engine has no batches."""
    variables = _exported(dev.found(r"^  export (.*)"))
    lines = folder / "requests.jsonl"
    names = [json.dumps({"action": "greet", "payload": {"name": str(n)}}) for n in range(30)]
    lines.write_text("\n".join(names))
    for _ in range(2):
        ended = command("enqueue", "--file", str(lines), "--id-prefix", "x", "--yes", **variables)
        assert ended.returncode == 0, ended.stderr
    listed = json.loads(command("list", "--json", **variables).stdout)
    assert len(listed) == 30


def test_the_engine_ends_with_it(dev: Process) -> None:
    """Its port is free after Ctrl-C, also where the line was run in the same terminal."""
    variables = _exported(dev.found(r"^  export (.*)"))
    port = variables["STREAMER_ENDPOINT_URL"].rpartition(":")[2]
    dev.signal(signal.SIGINT)
    assert dev.ended() == 0
    assert not any("Traceback" in line for line in dev.lines)
    with Process("dev", "--handlers", "hello", "--port", port, **variables) as again:
        again.found("an empty DynamoDB in memory")
        again.event("worker_started")
        again.signal(signal.SIGKILL)
        again.ended()
    with Process("dev", "--handlers", "hello", "--port", port) as third:
        third.event("worker_started")
        third.signal(signal.SIGTERM)
        assert third.ended() == 0


@pytest.mark.usefixtures("folder")
def test_a_port_in_use() -> None:
    """It says which option chooses another."""
    with closing(socket.socket()) as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        port = str(used.getsockname()[1])
        ended = command("dev", "--handlers", "hello", "--port", port)
    assert ended.returncode == 2
    assert f"port {port} is in use" in ended.stderr
    assert "--port" in ended.stderr


@pytest.mark.usefixtures("folder")
def test_aws_is_refused() -> None:
    """An endpoint of AWS stops it, before anything is sent."""
    url = "https://dynamodb.eu-west-1.amazonaws.com"
    ended = command("dev", "--handlers", "hello", AWS_ENDPOINT_URL_DYNAMODB=url)
    assert ended.returncode == 2
    assert "dev does not use AWS: AWS_ENDPOINT_URL_DYNAMODB is" in ended.stderr


@pytest.mark.usefixtures("folder")
def test_wrong_settings_stop_it() -> None:
    """They are in the environment, so a change of a file would not correct them."""
    ended = command(
        "dev", "--handlers", "hello", "--port", _free_port(), STREAMER_CONCURRENCY="none"
    )
    assert ended.returncode == 2
    assert "STREAMER_CONCURRENCY" in ended.stderr


@pytest.mark.usefixtures("folder")
def test_a_running_dynamodb_local_is_used(local_url: str) -> None:
    """It gets the dummy credentials, and the line names its region and the tables."""
    settings = {
        "AWS_ENDPOINT_URL_DYNAMODB": local_url,
        "STREAMER_TABLE_PREFIX": unique_prefix(),
        "STREAMER_TABLE_NAMES_REQUESTS": unrelated_names()["requests"],
    }
    with Process("dev", "--handlers", "hello", **ELSEWHERE, **settings) as process:
        process.event("worker_started")
        variables = _exported(process.found(r"^  export (.*)"))
        assert variables["STREAMER_ENDPOINT_URL"] == local_url
        for name in ("STREAMER_TABLE_PREFIX", "STREAMER_TABLE_NAMES_REQUESTS"):
            assert variables[name] == settings[name]
        assert _greeted(variables | {"AWS_DEFAULT_REGION": "eu-west-1"}) == {"hello": "Ada"}
        process.signal(signal.SIGINT)
        assert process.ended() == 0
