"""Commands that change several items ask for confirmation."""

from __future__ import annotations

import shlex
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from integration.desk import Desk, desk
from processes import COMMAND, PATIENCE, environment
from streamer_store import Stores
from support import connection

__all__ = ["desk"]
REDRIVE = ("redrive", "--since", "1h")
REAP = ("connections", "reap")
Ended = subprocess.CompletedProcess[str]


@pytest.fixture
def failed(desk: Desk) -> Desk:
    """Add two FAILED requests and two stale connections."""
    desk.enqueue("r1", "r2")
    desk.fail("r1", "r2")
    silent = datetime.now(UTC) - timedelta(hours=5)

    async def work(stores: Stores) -> None:
        for number in range(2):
            await stores.connections.save(
                connection(f"c{number}", connected_at=silent, last_ping=silent)
            )

    desk.do(work)
    return desk


def remaining(desk: Desk) -> tuple[int, int]:
    """Return the number of FAILED requests, and the number of connections."""
    failed = desk.json("list", "--status", "FAILED")
    return len(failed), len(desk.json("connections", "list"))


@pytest.mark.parametrize("arguments", [REDRIVE, REAP, (*REDRIVE, "--json"), (*REAP, "--json")])
def test_without_a_terminal_many_are_not_changed(arguments: tuple[str, ...], failed: Desk) -> None:
    """The command exits with 2, and prints the number of items and the option to give."""
    result = failed.run(*arguments, code=2)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert " 2 " in line
    assert "--yes" in line
    assert "--dry-run" in line
    assert remaining(failed) == (2, 2)


def test_a_closed_stdin_is_not_a_terminal(failed: Desk) -> None:
    """A service manager or cron may start the command so."""
    script = f"{shlex.join([*COMMAND, *REDRIVE])} <&-"
    result = subprocess.run(  # noqa: S603
        ["sh", "-c", script],  # noqa: S607
        env=environment(**failed.settings),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert "--yes" in result.stderr
    assert remaining(failed) == (2, 2)


@pytest.mark.parametrize(("arguments", "after"), [(REDRIVE, (0, 2)), (REAP, (2, 0))])
def test_yes_skips_the_question(arguments: tuple[str, ...], after: Any, failed: Desk) -> None:
    """With --yes the items are changed without a terminal."""
    failed.run(*arguments, "--yes")
    assert remaining(failed) == after


def test_one_is_changed_without_a_question(failed: Desk) -> None:
    """There is no question for one id, for one selected request, or for none."""
    failed.run("redrive", "r1")
    failed.run(*REDRIVE)
    failed.run(*REDRIVE)
    assert remaining(failed) == (0, 2)


@pytest.mark.parametrize(("arguments", "after"), [(REDRIVE, (0, 2)), (REAP, (2, 0))])
def test_on_a_terminal_it_asks(arguments: tuple[str, ...], after: Any, failed: Desk) -> None:
    """`n` and an empty answer change nothing. `y` changes the items."""
    for answer in ("n\n", "\n"):
        refused = failed.answered(answer, *arguments)
        assert refused.returncode == 1
        assert refused.stdout == ""
        assert "2 " in refused.stderr
        assert remaining(failed) == (2, 2)
    assert failed.answered("y\n", *arguments).returncode == 0
    assert remaining(failed) == after
