"""docs/handlers.md: every block of code on it, in the order in which it stands there."""

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
    ProgressMessage,
    encode,
)
from support import START

PAGE = (ROOT / "docs" / "handlers.md").read_text()
PATIENCE = 180.0
_BLOCK = re.compile(
    r"(?:<!-- (\w+)(?:: (\S+))? -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    kind: str
    path: str
    language: str
    text: str


BLOCKS = [Block(*each) for each in _BLOCK.findall(PAGE)]


@dataclass(frozen=True)
class Project:
    """The package as the page builds it, and an environment in which the worker is installed."""

    folder: Path
    bin: Path

    def run(self, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603
            command,
            cwd=self.folder,
            env=self.environment(**more),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def environment(self, **more: str) -> dict[str, str]:
        own = {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "COLUMNS": "160",
        }
        kept = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
        return kept | own | more


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Write the files of the page, and install the worker, as a wheel, into an environment."""
    folder = tmp_path_factory.mktemp("invoices")
    for block in BLOCKS:
        if block.kind in {"file", "add"}:
            path = folder / block.path
            path.parent.mkdir(parents=True, exist_ok=True)
            assert path.exists() == (block.kind == "add"), block.path
            with path.open("a") as file:
                file.write(("\n\n" if block.kind == "add" else "") + block.text)
    made = Project(folder, _environment(tmp_path_factory.mktemp("environment")))
    built = made.run("pip", "wheel", "-q", "--no-deps", "--wheel-dir", "wheels", str(ROOT))
    assert built.returncode == 0, built.stderr
    (wheel,) = (folder / "wheels").glob("*.whl")
    installed = made.run("pip", "install", "-q", "--no-deps", "--force-reinstall", str(wheel))
    assert installed.returncode == 0, installed.stderr
    return made


def _environment(folder: Path) -> Path:
    """Make one that has our libraries, with pip and pytest on its path; give its `bin`."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    (ours,) = {path for path in sys.path if path.endswith("site-packages")}
    (site,) = (folder / "lib").glob("python*/site-packages")
    (site / "libraries.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
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
    """Run the commands of the page, in their order."""
    for block in BLOCKS:
        if block.kind == "shell":
            done = project.run("sh", "-ec", block.text)
            assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
    return project


def test_every_block_has_its_purpose() -> None:
    """Files and what is added to them, commands, the image, and messages as they are pushed."""
    assert {(each.kind, each.language) for each in BLOCKS} == {
        ("file", "toml"),
        ("file", "python"),
        ("add", "python"),
        ("shell", "sh"),
        ("dockerfile", "dockerfile"),
        ("", "json"),
    }
    assert PAGE.count("```") == 2 * len(BLOCKS)


def test_the_commands_do_what_the_page_says(installed: Project) -> None:
    """Installed, its tests pass, its handlers are listed, its wheel is built and installed."""
    project = installed
    assert (project.folder / "dist" / "invoices-1.0-py3-none-any.whl").exists()
    listed = json.loads(project.run("streamer-worker", "handlers", "--json").stdout)
    invoices = {each["action"]: each for each in listed if each["distribution"] == "invoices 1.0"}
    assert set(invoices) == {
        *("total_invoice", "import_invoices", "fetch_invoice", "render_invoice", "charge")
    }
    assert invoices["render_invoice"]["runs_in"] == "process"
    schema = project.run("streamer-worker", "handlers", "total_invoice", "--schema")
    assert json.loads(schema.stdout)["total_invoice"]["required"] == ["number", "lines"]


def test_the_worker_runs_the_wheel(installed: Project, moto_url: str) -> None:
    """Both as wheels, beside each other: a request of each kind is answered."""
    project = installed
    settings = {
        "STREAMER_ENDPOINT_URL": moto_url,
        "STREAMER_TABLE_PREFIX": "page-",
        "STREAMER_HTTP_PORT": "0",
        "STREAMER_PUSH": "off",
        "PYTHONPATH": "",
    }
    where = project.run("python", "-c", "import streamer_worker; print(streamer_worker.__file__)")
    assert str(project.bin.parent) in where.stdout
    assert project.run("streamer-worker", "tables", "create", **settings).returncode == 0
    executable = str(project.bin / "streamer-worker")
    ada = {"number": "A-1", "lines": [{"text": "tea", "cents": 250}]}
    with Process("run", executable=executable, **settings) as worker:
        worker.event("worker_started")
        for action, payload, result in (
            ("total_invoice", ada, '{"cents": 250}'),
            ("import_invoices", {"invoices": [ada]}, '{"imported": 1}'),
            ("fetch_invoice", ada, '{"bytes": 8}'),
            ("render_invoice", ada, "checksum"),
            ("charge", {"name": "Ada", "cents": 5}, '{"charged": 5}'),
        ):
            sent = ("enqueue", action, "--payload", json.dumps(payload), "--wait")
            ended = project.run("streamer-worker", *sent, **settings)
            assert result in ended.stdout, ended.stdout + ended.stderr
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0


def test_the_image_of_the_page_is_two_lines_on_the_worker_s() -> None:
    """It installs the wheel that the commands have built."""
    (block,) = [each for each in BLOCKS if each.kind == "dockerfile"]
    base, install = block.text.strip().splitlines()
    assert base == "FROM streamer-worker"
    assert json.loads(install[install.index("[") :]) == [
        *("pip", "install", "--no-cache-dir", "/dist/invoices-1.0-py3-none-any.whl")
    ]


def test_the_messages_are_those_that_are_pushed() -> None:
    """Field by field."""
    (block,) = [each for each in BLOCKS if each.language == "json"]
    told = [json.loads(line) for line in block.text.strip().splitlines()]
    given: dict[str, Any] = {"request_id": "...", "connection_id": None, "at": START}
    pushed = [
        encode(ProgressMessage(fraction=0.455, message="...", details=None, **given)),
        encode(CompleteMessage(result={}, **given)),
        encode(ErrorMessage(code="...", text="...", **given)),
    ]
    assert [each | {"timestamp": 0} for each in told] == [
        json.loads(each) | {"timestamp": 0} for each in pushed
    ]


def test_the_example_plugin_passes_its_own_tests(project: Project) -> None:
    """In an environment of its own."""
    source = project.folder / "example"
    shutil.copytree(ROOT / "examples" / "reports-plugin", source)
    installed = project.run("pip", "install", "-q", "--no-deps", str(source))
    assert installed.returncode == 0, installed.stderr
    tested = project.run("pytest", "-q", str(source / "tests"))
    assert tested.returncode == 0, tested.stdout
    assert "7 passed" in tested.stdout
