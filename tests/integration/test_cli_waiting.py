"""Commands say that they wait for DynamoDB, and give up."""

from __future__ import annotations

import select
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from processes import Process
from streamer_worker.cli.waiting import CALL_TIMEOUT


@pytest.fixture
def silent_url() -> Iterator[str]:
    """Give the URL of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def settings(url: str) -> dict[str, str]:
    return {"STREAMER_ENDPOINT_URL": url, "STREAMER_TABLE_PREFIX": "t_"}


def refusing_url() -> str:
    """Return a URL at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("arguments", [("list",), ("tables", "check")], ids=" ".join)
def test_a_server_that_never_answers_is_given_up(
    arguments: tuple[str, ...], silent_url: str
) -> None:
    """It is said before the end, which comes after 20 s, with exit code 1."""
    begun = time.perf_counter()
    with Process(*arguments, **settings(silent_url)) as process:
        process.found(f"^waiting for DynamoDB at {silent_url}, for up to 20 s$")
        assert time.perf_counter() - begun < CALL_TIMEOUT
        assert process.ended() == 1
    first, error = process.lines
    assert first.startswith("waiting")
    assert error.startswith("error: DynamoDB did not answer: no answer within 20 s. Check that")
    assert "STREAMER_ENDPOINT_URL" in error


def test_a_server_that_refuses_connections_is_given_up() -> None:
    """One line says what to check. The time is that of five attempts, 20 s at most."""
    url = refusing_url()
    with Process("show", "r1-abc", **settings(url)) as process:
        assert process.ended() == 1
    error = process.lines[-1]
    assert error.startswith("error: DynamoDB did not answer")
    assert f"Check that {url} is right and can be reached" in error
    assert len(process.lines) <= 2


def test_ctrl_c_ends_the_waiting(silent_url: str) -> None:
    """There is no traceback, and the exit code is 130."""
    with Process("list", **settings(silent_url)) as process:
        process.found("^waiting")
        process.signal(signal.SIGINT)
        assert process.ended() == 130
    assert len(process.lines) == 1


def test_a_password_in_the_url_is_not_printed(silent_url: str) -> None:
    """As `config` masks it."""
    secret = silent_url.replace("//", "//me:s3cret@")
    with Process("list", **settings(secret)) as process:
        process.found("waiting for DynamoDB at http://.*@127")
        process.signal(signal.SIGINT)
        process.ended()
    assert "s3cret" not in "\n".join(process.lines)


def test_the_server_is_really_silent(silent_url: str) -> None:
    """It accepts a connection, so that the tests above do not test a refusal."""
    port = int(silent_url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        assert select.select([connection], [], [], 0)[0] == []
