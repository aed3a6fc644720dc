"""Errors that stop `streamer-worker run` from starting are printed without a traceback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from plugins import SLOW_PLUGIN, plugin
from processes import command

if TYPE_CHECKING:
    from pathlib import Path

    from streamer_store import Stores

pytestmark = pytest.mark.anyio


def _refused(expected: str, settings: dict[str, str], *, code: int = 2) -> None:
    ended = command("run", **settings)
    assert ended.returncode == code
    assert expected in ended.stderr
    assert ended.stderr.count("error: ") == 1
    assert "Traceback" not in ended.stdout + ended.stderr


async def test_no_handlers(real: tuple[Stores, dict[str, str]]) -> None:
    """The error names the group of the entry points."""
    _refused("streamer_worker.handlers", real[1])


async def test_broken_plugins(
    real: tuple[Stores, dict[str, str]], plugins: str, tmp_path: Path
) -> None:
    """Import errors and actions that are claimed twice are all reported at once."""
    broken = plugin(tmp_path, "broken", "import nothing_of_that_name", "x = broken:x")
    twice = plugin(tmp_path, "twice", SLOW_PLUGIN, "wait = twice:wait")
    ended = command("run", PYTHONPATH=f"{plugins}:{broken}:{twice}", **real[1])
    assert ended.returncode == 2
    assert "broken (x = broken:x)" in ended.stderr
    assert "nothing_of_that_name" in ended.stderr
    assert "'wait' is claimed twice: by slow (wait = slow:wait)" in ended.stderr
    assert "twice (wait = twice:wait)" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("fault", "expected", "code"),
    [
        ({"STREAMER_TABLE_PREFIX": "nothing_"}, "tables create", 2),
        ({"STREAMER_CONCURENCY": "3"}, "nearest is STREAMER_CONCURRENCY", 2),
        ({"STREAMER_ENDPOINT_URL": "http://127.0.0.1:1"}, "DynamoDB did not answer", 1),
        ({"AWS_PROFILE": "no_such_profile"}, "no_such_profile", 2),
        ({"PROMETHEUS_MULTIPROC_DIR": "/no/such/dir"}, "PROMETHEUS_MULTIPROC_DIR: '/no/such", 2),
    ],
    ids=["tables", "setting", "network", "profile", "metrics"],
)
async def test_a_wrong_environment(
    real: tuple[Stores, dict[str, str]],
    plugins: str,
    fault: dict[str, str],
    expected: str,
    code: int,
) -> None:
    """The message names the fault. The exit code is 2 for wrong input, and 1 for failed calls."""
    _refused(expected, real[1] | {"PYTHONPATH": plugins} | fault, code=code)


async def test_a_port_in_use(real: tuple[Stores, dict[str, str]], plugins: str) -> None:
    """The error suggests another port. The engine of the test holds this one."""
    port = real[1]["STREAMER_ENDPOINT_URL"].rpartition(":")[2]
    _refused("choose another", real[1] | {"PYTHONPATH": plugins, "STREAMER_HTTP_PORT": port})
