"""Starts DynamoDB Local, as `make dynamodb-local` installs it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from streamer_store import StoreUnavailable
from support import cache_folder

_CREDENTIALS: Final = {
    "AWS_ACCESS_KEY_ID": "dummy",
    "AWS_SECRET_ACCESS_KEY": "dummy",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}
HINT: Final = "DynamoDB Local is not installed: run `make dynamodb-local`"
_START_TIMEOUT: Final = 60.0


class NotInstalledError(Exception):
    """DynamoDB Local, or Java, is missing."""


def use_dummy_credentials() -> None:
    """Set credentials for DynamoDB Local in this process. Remove all settings of AWS and ours."""
    for name in list(os.environ):
        if name.startswith("AWS_") or (
            name.startswith("STREAMER_") and not name.startswith("STREAMER_TEST_")
        ):
            del os.environ[name]
    os.environ.update(_CREDENTIALS)


@contextmanager
def dynamodb_local() -> Iterator[str]:
    """Run DynamoDB Local in memory on a free port, and give its URL. Raises NotInstalledError."""
    jars = sorted(cache_folder().glob("dynamodb-local-*/DynamoDBLocal.jar"))
    java = shutil.which("java")
    if not jars or java is None:
        raise NotInstalledError(HINT)
    process, port = _start(java, jars[-1])
    try:
        _wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(java: str, jar: Path) -> tuple[subprocess.Popen[bytes], int]:
    port = free_port()
    process = subprocess.Popen(  # noqa: S603
        [
            java,
            f"-Djava.library.path={jar.parent / 'DynamoDBLocal_lib'}",
            *("-jar", str(jar), "-inMemory", "-sharedDb", "-port", str(port)),
        ],
        cwd=jar.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return process, port


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)  # nothing announces that a port is open
        else:
            return
    raise StoreUnavailable(f"DynamoDB Local did not start within {_START_TIMEOUT:g} s")
