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
from tempfile import TemporaryFile
from typing import IO, Any, Self, TypeVar

from fork_server import ForkedProcess, can_fork

ROOT = Path(__file__).parent.parent
PROGRAM = str(Path(sys.executable).with_name("streamer-worker"))
COMMAND = [PROGRAM]
PATIENCE = 60.0
Found = TypeVar("Found")


def environment(**more: str) -> dict[str, str]:
    """Return this environment with more settings in it, for a terminal of a known width."""
    return os.environ | {"COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"} | more


def command(
    *arguments: str, stdin: str | int = "", executable: str | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run `streamer-worker` to its end, forked unless `executable` is PROGRAM (fork_server.py).

    stdin: its text, or a descriptor.
    """
    env = environment(**more)
    with TemporaryFile("w+") as text, TemporaryFile("w+") as out, TemporaryFile("w+") as err:
        if isinstance(stdin, str):
            text.write(stdin)
            text.seek(0)
            stdin = text.fileno()
        streams = [stdin, out.fileno(), err.fileno()]
        process: subprocess.Popen[bytes] | ForkedProcess
        if executable is None and can_fork(env):
            process = ForkedProcess([*COMMAND, *arguments], env=env, streams=streams)
        else:
            read, written, errors = streams
            process = subprocess.Popen(  # noqa: S603
                [executable or PROGRAM, *arguments],
                env=env,
                stdin=read,
                stdout=written,
                stderr=errors,
            )
        try:
            code = process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(process.args, code, out.read(), err.read())


class Process:
    """A process whose lines, on stdout and stderr, can be waited for."""

    def __init__(self, *arguments: str, executable: str | None = None, **more: str) -> None:
        """Fork `streamer-worker` (fork_server.py), or start an executable, which may be PROGRAM."""
        env = environment(**more)
        self._process: subprocess.Popen[str] | ForkedProcess
        if executable is None and can_fork(env):
            output, written = os.pipe()
            self._process = ForkedProcess(
                [*COMMAND, *arguments], env=env, streams=[0, written, written]
            )
            os.close(written)
            self._output: IO[str] = os.fdopen(output)
        else:
            self._process = subprocess.Popen(  # noqa: S603
                [executable or PROGRAM, *arguments],
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert self._process.stdout is not None
            self._output = self._process.stdout
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
        self._output.close()

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
        for line in self._output:
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
