"""Starts `streamer-worker` by forking a process that has imported it.

Most of the time of a short command is the start of Python and the imports. A forked process has
done both. Apart from that it is a process as any other, with its own pid, environment, streams,
signals, exit hooks and exit code, and it ends as the console script ends. But a module on its
PYTHONPATH cannot replace one that the server has imported: such a test starts a process.

This file is both sides. The server runs it as a program. One server serves one process of pytest.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, Final

import botocore.session

# The server's own environment has these, so a process with other values needs a start of its own.
_READ_AT_START: Final = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "TZ")


def can_fork(env: Mapping[str, str]) -> bool:
    """Return whether a process with this environment can be forked.

    There are three cases in which it cannot:

    1. The environment differs in a variable that Python reads when it starts.
    2. Coverage is measured. It begins with the start of a process.
    3. The system has no pidfd_open(). Only Linux has it.
    """
    if any(name.startswith("COVERAGE_PROCESS") for name in env) or not hasattr(os, "pidfd_open"):
        return False
    return _start_variables(env) == _start_variables(os.environ)


def _start_variables(env: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in env.items()
        if name.startswith(_READ_AT_START) and name != "PYTHONPATH"
    }


class ForkedProcess:
    """A process of the server. Has the part of subprocess.Popen that the tests use."""

    def __init__(self, arguments: list[str], *, env: dict[str, str], streams: list[int]) -> None:
        """Fork a process that runs `streamer-worker` with these arguments.

        arguments: the first is the path of the program.
        streams: the descriptors that become its stdin, stdout and stderr.
        """
        self.args = arguments
        self.returncode: int | None = None
        self._ended = threading.Event()
        near, far = socket.socketpair()
        with far:
            socket.send_fds(_server(), [b"+"], [far.fileno(), *streams])
        answers = near.makefile("rw")
        near.close()
        answers.write(json.dumps({"arguments": arguments, "env": env, "folder": str(Path.cwd())}))
        answers.write("\n")
        answers.flush()
        self.pid = int(answers.readline())
        threading.Thread(target=self._wait_for_end, args=(answers,), daemon=True).start()

    def poll(self) -> int | None:
        """Return the exit code, or None if the process runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code, which is negative after a signal. Raises TimeoutExpired."""
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _wait_for_end(self, answers: IO[str]) -> None:
        with answers:
            self.returncode = int(answers.readline())
        self._ended.set()


@cache
def _server() -> socket.socket:
    """Start the server once, and return the socket for requests. It ends with this process."""
    near, far = socket.socketpair()
    with far:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, __file__],
            stdin=far.fileno(),
            stdout=far.fileno(),
            env=os.environ | {"NO_COLOR": "1"},
        )

    def end() -> None:
        near.close()
        process.wait()

    atexit.register(end)
    return near


class _Child(Exception):
    """Raised in a forked child, so that it leaves the server's frames. Has its request."""

    def __init__(self, start: dict[str, Any]) -> None:
        super().__init__()
        self.start = start


def _serve(control: socket.socket) -> None:
    """Fork a process for each request, and report its exit code, until the other end is closed.

    Raises _Child in each forked process.
    """
    running: dict[int, tuple[int, socket.socket]] = {}  # by the process's pidfd
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor != control.fileno():
                poll.unregister(descriptor)
                os.close(descriptor)
                pid, client = running.pop(descriptor)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with client, suppress(OSError):  # the test may have ended
                    client.sendall(f"{code}\n".encode())
                continue
            data, descriptors, _, _ = socket.recv_fds(control, 1, 4)
            if not data:
                return
            client = socket.socket(fileno=descriptors[0])
            with client.makefile() as lines:
                start = json.loads(lines.readline())
            pid = os.fork()
            if pid == 0:
                control.close()
                client.close()
                for pidfd, (_, other) in running.items():
                    os.close(pidfd)
                    other.close()
                for standard, passed in enumerate(descriptors[1:]):
                    os.dup2(passed, standard)
                    os.close(passed)
                raise _Child(start)
            for passed in descriptors[1:]:
                os.close(passed)
            client.sendall(f"{pid}\n".encode())
            pidfd = os.pidfd_open(pid)
            running[pidfd] = (pid, client)
            poll.register(pidfd, select.POLLIN)


def _become(start: dict[str, Any], path: list[str]) -> None:
    """Take the arguments, the environment, the folder and the path of imports of the request."""
    os.chdir(start["folder"])
    os.environ.clear()
    os.environ.update(start["env"])
    sys.argv = start["arguments"]
    sys.path[:] = [
        str(Path(sys.argv[0]).parent),  # as Python does for a script
        *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)),
        *path,
    ]
    importlib.invalidate_caches()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.enable()


def _preload() -> None:
    """Import and parse what a worker may need later: the server does it once for all processes."""
    import streamer_store
    import streamer_worker
    from models import parse_once

    for package in (streamer_store, streamer_worker):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    parse_once()
    session = botocore.session.get_session()
    session.set_credentials("dummy", "dummy")
    for service in ("dynamodb", "apigatewaymanagementapi"):
        session.create_client(service, region_name="us-east-1").close()


def _run() -> None:
    control = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    path = sys.path[1:]
    _preload()
    from streamer_worker.cli import main

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends pytest, and so the server
    gc.disable()
    gc.freeze()  # a collection in a child, as at its end, would copy the memory that it shares
    try:
        _serve(control)
    except _Child as child:
        start = child.start
    else:
        return
    _become(start, path)
    main()


if __name__ == "__main__":
    _run()
