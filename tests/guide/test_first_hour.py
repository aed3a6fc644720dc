"""The README's lines for a first handler work as they stand, in their order, without a network."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue
from typing import Final, Self

import pytest

from processes import PATIENCE, ROOT

README: Final = (ROOT / "README.md").read_text()
_BLOCK: Final = re.compile(
    r"<!-- (shell|terminal|file)(?:: (\S+))? -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
_DONE: Final = "--- done "


class Terminal:
    """A shell that gets lines, as a user types them."""

    def __init__(self, folder: Path) -> None:
        kept = {
            name: text
            for name, text in os.environ.items()
            if not name.startswith(("AWS_", "COV", "PIP_", "PYTHON", "STREAMER_"))
        }
        self._shell = subprocess.Popen(
            ["/bin/sh"],
            cwd=folder,
            # The packages that pip needs are there (`see_libraries`), and no index is asked.
            env=kept
            | {
                "PIP_NO_INDEX": "1",
                "PIP_NO_BUILD_ISOLATION": "0",
                "PIP_NO_PYTHON_VERSION_WARNING": "1",
            }
            | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_COLOR": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._lines: Queue[str] = Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._shell.pid, signal.SIGTERM)
        self._shell.wait(PATIENCE)
        self._reader.join(PATIENCE)
        for pipe in (self._shell.stdin, self._shell.stdout):
            assert pipe is not None
            pipe.close()

    def type(self, line: str) -> None:
        """Type a line and do not wait for its end."""
        assert self._shell.stdin is not None
        self._shell.stdin.write(f"{line}\n")
        self._shell.stdin.flush()

    def run(self, line: str) -> str:
        """Type a line, wait for its end, and return its output. It must succeed."""
        self.type(f"{line}\necho '{_DONE}'$?")
        *output, last = self.until(_DONE)
        assert last == f"{_DONE}0", "\n".join([line, *output, last])
        return "\n".join(output)

    def until(self, text: str) -> list[str]:
        """Wait for a line with this text, and return all lines up to it."""
        lines: list[str] = []
        deadline = time.monotonic() + PATIENCE
        while not any(text in line for line in lines[-1:]):
            try:
                lines.append(self._lines.get(timeout=max(0, deadline - time.monotonic())))
            except Empty:
                raise AssertionError(f"no {text!r} in:\n" + "\n".join(lines)) from None
        return lines

    def _read(self) -> None:
        assert self._shell.stdout is not None
        for line in self._shell.stdout:
            self._lines.put(line.rstrip("\n"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a copy of the checkout in it."""
    checkout = tmp_path / "streamer-worker"
    checkout.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(ROOT / name, checkout)
    for name in ("store", "worker"):
        shutil.copytree(ROOT / name, checkout / name)
    return tmp_path


def blocks() -> Iterator[tuple[str, str, list[str], str]]:
    """Yield the kind, the file name, the lines and the text of each block of the README."""
    for kind, name, text in _BLOCK.findall(README):
        yield kind, name, text.splitlines(), text


def see_libraries(folder: Path) -> None:
    """Let a new environment find the libraries that an index would have."""
    (libraries,) = {path for path in sys.path if path.endswith("site-packages")}
    (site,) = (folder / ".venv" / "lib").glob("python*/site-packages")
    (site / "libraries.pth").write_text(f"import site; site.addsitedir({libraries!r})\n")


def test_a_strangers_handler_runs(folder: Path) -> None:
    """A worker in one terminal, results in the other. Then the package installs."""
    hello = folder / "hello"
    output: list[str] = []
    with Terminal(folder) as first, Terminal(hello.parent) as second:
        current = first
        for kind, name, lines, text in blocks():
            if kind == "file":
                (hello / name).write_text(text)
            elif kind == "terminal":
                for line in lines:
                    current.type(line)
                current.until("worker_started")
                current = second
                second.run("cd hello")  # "in the same folder"
            else:
                for line in lines:
                    output.append(current.run(line))
                    if "-m venv" in line:
                        see_libraries(hello)
    text = "\n".join(output)
    assert '{"greeted": 2}' in text
    assert "COMPLETED" in text
    assert "hello 1.0" in text
