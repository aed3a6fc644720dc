"""Every code block of docs/handlers.md works, in the order of the page."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from processes import ROOT, Process
from streamer_worker.push.messages import (
    CompleteMessage,
    ErrorMessage,
    HandlerMessage,
    ProgressMessage,
    encode,
)
from support import START

PAGE = (ROOT / "docs" / "handlers.md").read_text()
TIMEOUT = 180.0
_BLOCK = re.compile(
    r"(?:<!-- (\w+)(?:: (\S+))? -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    kind: str
    path: str
    language: str
    text: str


BLOCKS = [Block(*groups) for groups in _BLOCK.findall(PAGE)]


@dataclass(frozen=True)
class Project:
    """The folder with the page's package, and the `bin` of an environment with the worker."""

    folder: Path
    bin: Path

    def run(self, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603
            command,
            cwd=self.folder,
            env=self.environment(**more),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )

    def environment(self, **more: str) -> dict[str, str]:
        overrides = {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "COLUMNS": "160",
        }
        kept = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
        return kept | overrides | more


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Write the files of the page, and install the worker as a wheel into a new environment."""
    folder = tmp_path_factory.mktemp("invoices")
    for block in BLOCKS:
        if block.kind in {"file", "add"}:
            path = folder / block.path
            path.parent.mkdir(parents=True, exist_ok=True)
            assert path.exists() == (block.kind == "add"), block.path
            with path.open("a") as file:
                file.write(("\n\n" if block.kind == "add" else "") + block.text)
    project = Project(folder, _environment(tmp_path_factory.mktemp("environment")))
    built = project.run("pip", "wheel", "-q", "--no-deps", "--wheel-dir", "wheels", str(ROOT))
    assert built.returncode == 0, built.stderr
    (wheel,) = (folder / "wheels").glob("*.whl")
    installed = project.run("pip", "install", "-q", "--no-deps", "--force-reinstall", str(wheel))
    assert installed.returncode == 0, installed.stderr
    return project


def _environment(folder: Path) -> Path:
    """Create an environment with our libraries, pip and pytest, and return its `bin`."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    (libraries,) = {path for path in sys.path if path.endswith("site-packages")}
    (site,) = (folder / "lib").glob("python*/site-packages")
    (site / "libraries.pth").write_text(f"import site; site.addsitedir({libraries!r})\n")
    for name, command in {
        "pip": f"{shlex.quote(sys.executable)} -m pip --python {shlex.quote(str(python))}",
        "pytest": f"{shlex.quote(str(python))} -m pytest -p no:cacheprovider",
    }.items():
        script = folder / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        script.chmod(0o755)
    return folder / "bin"


@pytest.fixture(scope="module")
def installed(project: Project) -> Project:
    """Run the commands of the page, in the order of the page."""
    for block in BLOCKS:
        if block.kind == "shell":
            result = project.run("sh", "-ec", block.text)
            assert result.returncode == 0, f"{block.text}\n{result.stdout}\n{result.stderr}"
    return project


def test_every_block_has_a_known_kind() -> None:
    """Each block is a file, an addition to a file, commands, the image or the messages."""
    assert {(block.kind, block.language) for block in BLOCKS} == {
        ("file", "toml"),
        ("file", "python"),
        ("add", "python"),
        ("shell", "sh"),
        ("dockerfile", "dockerfile"),
        ("", "json"),
    }
    assert PAGE.count("```") == 2 * len(BLOCKS)


def test_the_commands_of_the_page_work(installed: Project) -> None:
    """The package installs, its tests pass, its handlers are listed, and its wheel is built."""
    project = installed
    assert (project.folder / "dist" / "invoices-1.0-py3-none-any.whl").exists()
    listed = json.loads(project.run("streamer-worker", "handlers", "--json").stdout)
    invoices = {
        entry["action"]: entry for entry in listed if entry["distribution"] == "invoices 1.0"
    }
    assert set(invoices) == {
        *("total_invoice", "import_invoices", "explain_invoice"),
        *("fetch_invoice", "render_invoice", "charge"),
    }
    assert invoices["render_invoice"]["runs_in"] == "process"
    schema = project.run("streamer-worker", "handlers", "total_invoice", "--schema")
    assert json.loads(schema.stdout)["total_invoice"]["required"] == ["number", "lines"]


def test_the_worker_runs_the_wheel(installed: Project, moto_url: str) -> None:
    """A worker and the package, both installed as wheels, complete a request of each kind."""
    project = installed
    settings = {
        "STREAMER_ENDPOINT_URL": moto_url,
        "STREAMER_BATCH_WRITES": "false",
        "STREAMER_TABLE_PREFIX": "page-",
        "STREAMER_HTTP_PORT": "0",
        "STREAMER_PUSH": "off",
        "PYTHONPATH": "",
    }
    origin = project.run("python", "-c", "import streamer_worker; print(streamer_worker.__file__)")
    assert str(project.bin.parent) in origin.stdout
    assert project.run("streamer-worker", "tables", "create", **settings).returncode == 0
    executable = str(project.bin / "streamer-worker")
    ada = {"number": "A-1", "lines": [{"text": "tea", "cents": 250}]}
    with Process("run", executable=executable, **settings) as worker:
        worker.event("worker_started")
        for action, payload, result in (
            ("total_invoice", ada, '{"cents": 250}'),
            ("import_invoices", {"invoices": [ada]}, '{"imported": 1}'),
            ("explain_invoice", ada, '{"text": "tea: 2.50'),
            ("fetch_invoice", ada, '{"bytes": 8}'),
            ("render_invoice", ada, "checksum"),
            ("charge", {"name": "Ada", "cents": 5}, '{"charged": 5}'),
        ):
            arguments = ("enqueue", action, "--payload", json.dumps(payload), "--wait")
            enqueue = project.run("streamer-worker", *arguments, **settings)
            assert result in enqueue.stdout, enqueue.stdout + enqueue.stderr
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0


def test_the_image_installs_the_wheel() -> None:
    """The image adds one line to the worker's, which installs the wheel of the page."""
    (block,) = [block for block in BLOCKS if block.kind == "dockerfile"]
    base, install = block.text.strip().splitlines()
    assert base == "FROM streamer-worker"
    assert json.loads(install[install.index("[") :]) == [
        *("pip", "install", "--no-cache-dir", "/dist/invoices-1.0-py3-none-any.whl")
    ]


def test_the_messages_have_the_shown_fields() -> None:
    """The messages on the page equal those that the worker pushes, except for times."""
    (block,) = [block for block in BLOCKS if block.language == "json"]
    shown = [json.loads(line) for line in block.text.strip().splitlines()]
    fields: dict[str, Any] = {"request_id": "...", "connection_id": None, "at": START}
    pushed = [
        encode(ProgressMessage(fraction=0.455, message="...", details=None, **fields)),
        encode(CompleteMessage(result={}, **fields)),
        encode(ErrorMessage(code="...", text="...", **fields)),
        encode(HandlerMessage(attempt=1, data="{}", user=None, tenant=None, **fields)),
    ]
    assert [message | {"timestamp": 0} for message in shown] == [
        json.loads(message) | {"timestamp": 0} for message in pushed
    ]


def test_the_example_plugin_passes_its_own_tests(project: Project) -> None:
    """The example plugin installs and its tests pass in an environment of its own."""
    source = project.folder / "example"
    shutil.copytree(ROOT / "examples" / "reports-plugin", source)
    installed = project.run("pip", "install", "-q", "--no-deps", str(source))
    assert installed.returncode == 0, installed.stderr
    tested = project.run("pytest", "-q", str(source / "tests"))
    assert tested.returncode == 0, tested.stdout
    assert "7 passed" in tested.stdout
