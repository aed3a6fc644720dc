"""Real processes: started, watched, and ended by their own id."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

ROOT = Path(__file__).parent.parent
COMMAND = [str(Path(sys.executable).with_name("streamer-worker"))]
PATIENCE = 60.0
Found = TypeVar("Found")


def environment(**more: str) -> dict[str, str]:
    """Return this environment with more settings in it, for a terminal of a known width."""
    return os.environ | {"COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"} | more


def command(*arguments: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """Run `streamer-worker` to its end."""
    return subprocess.run(  # noqa: S603
        [*COMMAND, *arguments],
        input=stdin,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


class Process:
    """A process whose lines, on stdout and stderr, can be waited for."""

    def __init__(self, *arguments: str, executable: str | None = None, **more: str) -> None:
        command = COMMAND if executable is None else [executable]
        self._process = subprocess.Popen(  # noqa: S603
            [*command, *arguments],
            env=environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def event(self, name: str, **fields: Any) -> dict[str, Any]:
        """Wait for a logged event that has these fields, and return it."""

        def wanted(line: str) -> dict[str, Any] | None:
            found = _parsed(line)
            matches = found.get("event") == name and fields.items() <= found.items()
            return found if matches else None

        return self._wait_for(wanted, f"{name} with {fields}")

    def found(self, pattern: str) -> str:
        """Wait for a line with this pattern, and return its first group, or all of it."""

        def wanted(line: str) -> str | None:
            match = re.search(pattern, line)
            return match and match.group(len(match.groups()) and 1)

        return self._wait_for(wanted, pattern)

    def seen(self, text: str, times: int, within: float = PATIENCE) -> None:
        """Wait until so many lines have this text."""
        deadline = time.monotonic() + within
        with self._news:
            while sum(text in line for line in self.lines) < times:
                if not self._news.wait(max(0.0, deadline - time.monotonic())):
                    raise AssertionError(
                        f"not {times} lines with {text} in:\n" + "\n".join(self.lines)
                    )

    def _wait_for(self, wanted: Callable[[str], Found | None], what: str) -> Found:
        deadline = time.monotonic() + PATIENCE
        seen = 0
        with self._news:
            while True:
                for line in self.lines[seen:]:
                    found = wanted(line)
                    if found is not None:
                        return found
                seen = len(self.lines)
                left = deadline - time.monotonic()
                if left <= 0 or not self._news.wait(left):
                    raise AssertionError(f"no {what} in:\n" + "\n".join(self.lines))

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def ended(self, *, within: float = PATIENCE) -> int:
        """Wait for the end and return the exit code."""
        return self._process.wait(within)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()


def page(url: str) -> str:
    """Fetch a page of a process that we started."""
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  loopback
        return str(answer.read().decode())


def _parsed(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def install(source: Path, target: Path) -> Path:
    """Install a package beside the worker's, into a folder for PYTHONPATH, without a network."""
    subprocess.run(  # noqa: S603
        [
            *(sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"),
            *("--no-deps", "--no-build-isolation", "--no-index", "--no-compile"),
            *("--target", str(target), str(source)),
        ],
        check=True,
        timeout=PATIENCE,
    )
    return target
