"""The image, built as the Dockerfile says: what is in it, and its worker on a read-only root."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from processes import PATIENCE, ROOT, Process
from streamer_store import AsyncRequest, RequestStatus, open_stores
from streamer_store.transitions import TERMINAL
from support import cache_folder, unique_prefix

pytestmark = [pytest.mark.anyio, pytest.mark.local]

USER = 65532
# As engines start a container: file system, processes and privileges of its own.
START = """
mount --bind "$ROOT" "$ROOT"
mount -t proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
mount -o remount,bind,ro "$ROOT"
exec setpriv --no-new-privs chroot --userspec="$CONTAINER_USER" "$ROOT" "$@"
"""


class Image:
    def __init__(self, folder: Path) -> None:
        self.root = (folder / "root").resolve()
        whole = json.loads((folder / "config.json").read_text())["Docker"]
        self.config: dict[str, Any] = whole["config"]
        self.history = json.dumps(whole["history"])
        self.example: dict[str, Any] = json.loads((folder / "example.json").read_text())["Docker"]

    @property
    def environment(self) -> dict[str, str]:
        return dict(each.split("=", 1) for each in self.config["Env"])

    @contextmanager
    def started(self, *command: str, **settings: str) -> Iterator[Process]:
        """Start the command, or what the image starts, as process 1 of a container."""
        command = command or (*self.config["Entrypoint"], *self.config["Cmd"])
        given = self.environment | settings
        more = {"ROOT": str(self.root), "CONTAINER_USER": self.config["User"]}
        arguments = [
            *("--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"),
            *("env", "-i", *(f"{name}={value}" for name, value in (given | more).items())),
            *("sh", "-ec", START, "sh", *command),
        ]
        with Process(*arguments, executable="unshare") as process:
            yield process

    def healthcheck(self, process: int, **settings: str) -> int:
        """Return what its health check says, run as engines run it: inside."""
        kind, *command = self.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        inside = ["--target", str(process), "--mount", "--pid", "--root"]
        who = ["--setuid", str(USER), "--setgid", str(USER)]
        given = [f"{name}={value}" for name, value in (self.environment | settings).items()]
        return subprocess.run(  # noqa: S603
            ["nsenter", *inside, *who, "env", "-i", *given, *command],  # noqa: S607
            check=False,
            capture_output=True,
            timeout=PATIENCE,
        ).returncode


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    """Build it; the base is made once, and cached.

    Each build deletes the image of the build before it. So a lock lets one run of the tests at a
    time, in any checkout of this machine, build the image and use it.
    """
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        if os.environ.get("STREAMER_TEST_REQUIRE_ALL"):
            pytest.fail("building the image needs root, and Linux")
        pytest.skip("building the image needs root, and Linux")
    if not os.environ.get("STREAMER_TEST_REQUIRE_ALL") and shutil.which("buildah") is None:
        pytest.skip("buildah is not installed")
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        built = subprocess.run(  # noqa: S603
            [ROOT / ".ci" / "image"], capture_output=True, text=True, check=False, timeout=900
        )
        assert built.returncode == 0, built.stderr
        yield Image(Path(built.stdout.strip()))


def child_of(process: int) -> int:
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return int(children[0])


def owner_of(process: int) -> int:
    return Path(f"/proc/{process}").stat().st_uid


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_it_runs_as_nobody_special_and_says_what_it_is(image: Image) -> None:
    """A user by number, labels as the Open Container Initiative names them, a health check."""
    assert image.config["User"] == f"{USER}:{USER}"
    assert image.config["StopSignal"] == "SIGTERM"
    assert list(image.config["ExposedPorts"]) == ["9464/tcp"]
    labels = image.config["Labels"]
    prefix = "org.opencontainers.image."
    assert labels[f"{prefix}title"] == "streamer-worker"
    assert labels[f"{prefix}licenses"] == "Apache-2.0"
    assert len(labels[f"{prefix}revision"]) == 40
    pyproject = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{labels[f"{prefix}version"]}"' in pyproject


def test_the_example_is_the_worker_with_the_plugin(image: Image) -> None:
    """deploy/compose.yaml builds this target. It starts and checks its worker as the image does."""
    assert image.example["config"] | {"Hostname": image.config["Hostname"]} == image.config
    assert "pip install /tmp/plugin" in json.dumps(image.example["history"])


def test_nothing_of_the_build_is_left_inside(image: Image) -> None:
    """No compiler, no cache, no list of packages, no source, nothing of the machine's own."""
    for tool in ("cc", "gcc", "make", "ld", "git", "hatchling"):
        assert not list(image.root.glob(f"usr/bin/{tool}"))
        assert not list(image.root.glob(f"opt/streamer-worker/bin/{tool}"))
    for folder in ("src", "root/.cache", "tmp/plugin", "tmp/pip-*", "var/cache/apt/archives/*.deb"):
        assert not [each for each in image.root.glob(folder) if each.is_file()]
    assert not any((image.root / "var/lib/apt/lists").iterdir())
    assert (image.root / "etc/pip.conf").read_text() == ""
    told = image.history + json.dumps(image.config)
    assert "PIP_CERT" not in told
    assert "index-url" not in told
    outside = os.environ.get("PIP_INDEX_URL")
    assert outside is None or outside not in told


def test_what_it_depends_on_is_pinned(image: Image) -> None:
    """To the versions that the tests have run with."""
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line
    )
    packages = image.root.glob("opt/streamer-worker/lib/python3*/site-packages/*.dist-info")
    found = dict(each.name.removesuffix(".dist-info").rsplit("-", 1) for each in packages)
    found = {name.replace("_", "-").lower(): version for name, version in found.items()}
    ours = {"streamer-worker", "reports-plugin", "setuptools"}
    pinned = {name.replace("_", "-").lower(): version for name, version in pins.items()}
    assert {name: pinned.get(name) for name in found if name not in ours} == {
        name: version for name, version in found.items() if name not in ours
    }
    assert "aiobotocore" in found
    assert "moto" not in found


def test_its_root_cannot_be_written(image: Image) -> None:
    """What the next test shows, it shows without a place to write to."""
    code = "import os; print('uid', os.getuid(), 'pid', os.getpid()); open('/tmp/x', 'w')"
    with image.started("python", "-c", code) as process:
        process.found(f"uid {USER} pid 1$")
        process.found("Read-only file system: '/tmp/x'")
        assert process.ended() == 1


async def test_its_worker_runs_the_example_plugin(image: Image, local_url: str) -> None:
    """Against DynamoDB Local, as nobody, on a read-only root, as process 1: a coroutine and a
    function in a process, the health check, and the end at SIGTERM.
    """
    prefix, port = unique_prefix(), free_port()
    settings = {
        "STREAMER_ENDPOINT_URL": local_url,
        "STREAMER_TABLE_PREFIX": prefix,
        "STREAMER_HTTP_PORT": port,
        "AWS_ACCESS_KEY_ID": "dummy",
        "AWS_SECRET_ACCESS_KEY": "dummy",
    }
    with image.started("streamer-worker", "tables", "create", **settings) as made:
        assert made.ended() == 0, made.lines
    async with open_stores(endpoint_url=local_url, prefix=prefix) as stores:
        with image.started(**settings) as container:
            container.event("worker_started", actions=["count_words", "write_report"])
            init = child_of(container.pid)
            assert image.healthcheck(init, **settings) == 0
            assert image.healthcheck(init, STREAMER_HTTP_PORT=free_port()) == 1
            for action, payload in (
                ("count_words", {"text": "one two three"}),
                ("write_report", {"rows": 500}),
            ):
                request = AsyncRequest(action=action, payload=payload, request_id=action)
                await stores.requests.enqueue(request)
                with anyio.fail_after(PATIENCE):
                    while request.status not in TERMINAL:
                        await anyio.sleep(0.1)
                        request = await stores.requests.get(action)
                assert request.status is RequestStatus.COMPLETED, request.error
            worker = child_of(init)
            assert owner_of(worker) == USER
            os.kill(init, signal.SIGTERM)
            container.event("worker_stopped")
            assert container.ended() == 0
        assert await stores.workers.list() == []
