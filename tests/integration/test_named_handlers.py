"""`--handlers`: a worker whose handlers no package has installed."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from processes import PROGRAM, Process, command
from streamer_store import AsyncRequest
from streamer_store.transitions import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from streamer_store import Stores

pytestmark = pytest.mark.anyio

HELLO = """
    import os
    from streamer_worker import handler

    @handler("greet")
    async def greet(payload, ctx):
        return {"greeted": payload["name"]}

    @handler("compute", process=True)
    def compute(payload, ctx):
        from hello_helper import double
        return {"pid": os.getpid(), "double": double(payload["n"])}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "hello.py").write_text(textwrap.dedent(HELLO))
    (tmp_path / "hello_helper.py").write_text("def double(n):\n    return 2 * n\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def _result(stores: Stores, action: str, **payload: object) -> Mapping[str, Any]:
    enqueued = await stores.requests.enqueue(AsyncRequest(action=action, payload=payload))
    with anyio.fail_after(30):
        while True:
            request = await stores.requests.get(enqueued.request_id)
            if request.status in TERMINAL:
                assert request.result is not None, request.error
                return request.result
            await anyio.sleep(0.02)


@pytest.mark.usefixtures("folder")
async def test_handlers_of_the_current_directory(real: tuple[Stores, dict[str, str]]) -> None:
    """They run in the worker and, with process=True, in a process, which finds their modules."""
    stores, settings = real
    with Process("run", "--handlers", "hello", **settings) as worker:
        assert worker.event("worker_started")["actions"] == ["compute", "greet"]
        assert await _result(stores, "greet", name="Ada") == {"greeted": "Ada"}
        computed = await _result(stores, "compute", n=21)
        assert computed["double"] == 42
        assert computed["pid"] != worker.pid


async def test_app_dir_and_installed_handlers(
    real: tuple[Stores, dict[str, str]], plugins: str, tmp_path: Path, folder: Path
) -> None:
    """Handlers of another directory are added to the installed ones."""
    other = tmp_path / "other"
    other.mkdir()
    (folder / "hello.py").rename(other / "hello.py")
    arguments = ["--handlers", "hello:greet", "--app-dir", "other"]
    with Process("run", *arguments, PYTHONPATH=plugins, **real[1]) as worker:
        assert {"greet", "count_words"} <= set(worker.event("worker_started")["actions"])
        assert await _result(real[0], "greet", name="Ada") == {"greeted": "Ada"}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("arguments", [["run"], ["handlers"]])
def test_a_wrong_reference(arguments: list[str]) -> None:
    """It is one line, without a traceback, and the exit code is 2."""
    ended = command(*arguments, "--handlers", "hello:gret")
    assert ended.returncode == 2
    assert "did you mean 'greet'?" in ended.stderr
    assert len(ended.stderr.splitlines()) == 2
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("valid", [True, False])
@pytest.mark.parametrize("name", ["run", "handlers", "check"])
def test_a_thread_that_a_module_starts_keeps_no_command(
    folder: Path, name: str, *, valid: bool
) -> None:
    """Neither with settings that are valid nor with others. The exit hooks run."""
    (folder / "hello.py").write_text(
        "import atexit, threading\n"
        "from streamer_worker import handler\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "atexit.register(print, 'the hook ran')\n"
        "@handler('greet', rate_limit='lots')\n"
        "async def greet(payload, ctx): ...\n"
    )
    endpoint = {"STREAMER_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    settings = endpoint | ({} if valid else {"STREAMER_CONCURRENCY": "none"})
    ended = command(name, "--handlers", "hello", executable=PROGRAM, **settings)
    output = ended.stdout + ended.stderr
    assert "rate_limit: 'lots' is no rate" in output
    assert ("STREAMER_CONCURRENCY" in output) is not valid
    assert "the hook ran" in ended.stdout
    assert ended.returncode == (1 if name == "check" else 2)


@pytest.mark.usefixtures("folder")
async def test_check_and_handlers_take_them_too(real: tuple[Stores, dict[str, str]]) -> None:
    """`check` counts them, and `handlers` shows their file in place of a package."""
    checked = command("check", "--handlers", "hello", STREAMER_PUSH="off", **real[1])
    assert "2: compute, greet" in checked.stdout
    assert checked.returncode == 0, checked.stdout
    assert "hello hello.py (hello:greet)" in command("handlers", "--handlers", "hello").stdout
